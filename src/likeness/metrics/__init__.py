"""Yardsticks.

    card             a score is a card, never a bare number
    likelihood       what an image costs without learning: uniform, PNG, WebP, independent pixels
    reconstruction   squared error, PSNR, SSIM, and what the mean image and PCA reach
    neighbours       the nearest training images: has it learnt, or copied?
    moments          Fréchet distance, what endless samples would have, and its error
    kernels          maximum mean discrepancies: KID, and with a Gaussian kernel
    manifold         precision, recall, density, coverage, diversity; authentic samples, duplicates
    twosample        can a classifier tell two sets apart? sliced Wasserstein on pixels
    classes          which classes, how evenly, how clearly
    modes            of data whose modes are known: how many a model has found, and how evenly
    parzen           the Parzen-window log-likelihood of the first adversarial models, and why it proves nothing
    doubts           what cannot be right about numbers that look good
    decisions        is a classifier right, calibrated, and does it know what it does not know?

All are functions of arrays.  They know no model, no data set and no run.  scipy and scikit-learn are imported
by the functions that use them: they take longer to import than most questions take to answer.
"""  # noqa: E501
