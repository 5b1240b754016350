/// Turns outputs of a model into scores and answers, and measures how far two sets of outputs are apart.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "bundle/manifest.hpp"

namespace paraexport::core {

struct Answer {
    int index;  ///< of the output, or -1 for the label for "no" of a model with one output
    const std::string *label;
    double score;
};

/// The outputs of one image as answers, the best first; measured values stay in their order.
///
/// Throws an Error if the outputs are not finite, or no probabilities where they should be.
std::vector<Answer> ranked(const float *outputs, const std::vector<std::string> &labels, const Scores &scores);

/// max |difference| / max |expected|, on the scale on which they differ the most. NaN if a number is not finite.
double relative_difference(const std::vector<float> &expected, const std::vector<float> &got, const Scores &scores);

}  // namespace paraexport::core
