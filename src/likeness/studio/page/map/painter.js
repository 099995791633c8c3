// @ts-check
// Draws the points beside the page: a module Worker with the canvas of the map and its own copy of the points.
import { Raster } from "./raster.js";

const raster = new Raster();
/** @type {OffscreenCanvas | null} */ let canvas = null;
/** @type {any} */ let points = null;
/** @type {any} */ let look = null;
/** @type {ImageData | null} */ let image = null;

self.onmessage = ({ data }) => {
  if (data.canvas) canvas = data.canvas;
  if (data.points) points = data.points;
  if (data.look) look = { ...look, ...data.look };
  if (!data.view || !canvas || !points || !look) return;
  const { width, height } = data, began = performance.now();
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  if (canvas.width !== width || canvas.height !== height || !image) {
    canvas.width = width;
    canvas.height = height;
    image = pen.createImageData(width, height);
  }
  const drawn = raster.draw(new Uint32Array(image.data.buffer), width, height, points, data.view, look);
  pen.putImageData(image, 0, 0);
  self.postMessage({ ...drawn, number: data.number, ms: performance.now() - began });
};
