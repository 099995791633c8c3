"""Yardsticks.

    card             a score is a card, never a bare number
    likelihood       what an image costs without learning: uniform, PNG, WebP, independent pixels
    reconstruction   squared error, PSNR, SSIM, and what the mean image and PCA reach
    neighbours       the nearest training images: has it learnt, or copied?

All are functions of arrays.  They know no model, no data set and no run.
"""
