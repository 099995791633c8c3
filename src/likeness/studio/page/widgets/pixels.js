/** Arrays of pixels as what a canvas draws. */

/**
 * Values of images (n, height, width, channels) as RGBA, image after image.
 * @param {{pixels: Uint8Array, n: number, height: number, width: number, channels: number}} raw
 */
export function rgba({ pixels, n, height, width, channels }) {
  const size = height * width, out = new Uint8ClampedArray(n * size * 4);
  if (pixels.length !== n * size * channels) throw new RangeError(`${pixels.length} values are no ${n} images of ${height} x ${width} x ${channels}`);
  for (let i = 0, k = 0, j = 0; i < n * size; i++, k += channels, j += 4) {
    out[j] = pixels[k];
    out[j + 1] = pixels[channels > 2 ? k + 1 : k];
    out[j + 2] = pixels[channels > 2 ? k + 2 : k];
    out[j + 3] = 255;
  }
  return out;
}

/** From the shape of an array on the wire: (n,H,W,C), (n,H,W) or (H,W,C). @param {Uint8Array} pixels @param {number[]} shape */
export function raw(pixels, shape) {
  if (shape.length === 4) return { pixels, n: shape[0], height: shape[1], width: shape[2], channels: shape[3] };
  if (shape[2] <= 4) return { pixels, n: 1, height: shape[0], width: shape[1], channels: shape[2] };
  return { pixels, n: shape[0], height: shape[1], width: shape[2], channels: 1 };
}

/**
 * A canvas for each of some images, raw or encoded.
 * @param {Parameters<typeof rgba>[0] | Uint8Array[]} from @returns {Promise<HTMLCanvasElement[]>}
 */
export async function painted(from) {
  if (Array.isArray(from)) return Promise.all(from.map(opened));
  const all = rgba(from), size = from.height * from.width * 4;
  return Array.from({ length: from.n }, (_, i) => {
    const canvas = blank(from.width, from.height);
    canvas.getContext("2d")?.putImageData(new ImageData(all.subarray(i * size, (i + 1) * size), from.width, from.height), 0, 0);
    return canvas;
  });
}

/** @param {number} width @param {number} height */
function blank(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/** An encoded image (JPEG, PNG, WebP) as a canvas. @param {Uint8Array} file */
export async function opened(file) {
  const bitmap = await createImageBitmap(new Blob([/** @type {any} */ (file)]));
  const canvas = blank(bitmap.width, bitmap.height);
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas;
}
