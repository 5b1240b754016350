/// Turns pixels into the input of a model. `paraexport/images/preprocess.py` defines each step.
#pragma once

#include "bundle/manifest.hpp"
#include "paraexport.h"

namespace paraexport::core {

/// Convert the channels, resize, crop and normalise. Writes float32 [channels, height, width].
///
/// Throws an Error for pixels that do not fit the model.
void prepare(const paraexport_pixels &pixels, const Preprocessing &preprocessing, float *image);

}  // namespace paraexport::core
