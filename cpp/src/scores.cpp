#include "scores.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "error.hpp"

namespace paraexport::core {
namespace {

/// Probabilities may leave the range 0 to 1 by this much, in any precision.
constexpr double ROUNDING = 1e-3;
/// The bounds of the comparison on the scale of logits, as in `paraexport.model.scores`.
constexpr double SMALLEST = 1e-6, NEAR_CERTAIN = 1e-2, LOWEST_LOGARITHM = -30;

std::vector<double> scores_of(const float *outputs, std::size_t count, const Scores &scores) {
    std::vector<double> values(outputs, outputs + count);
    if (scores.activation == "softmax") {
        const double largest = *std::max_element(values.begin(), values.end());
        for (double &value : values) {
            value = std::exp(value - largest);
        }
        const double sum = std::accumulate(values.begin(), values.end(), 0.0);
        for (double &value : values) {
            value /= sum;
        }
    } else if (scores.activation == "sigmoid") {
        for (double &value : values) {
            const double power = std::exp(-std::fabs(value));  // at most 1, so it cannot overflow
            value = value >= 0 ? 1 / (1 + power) : power / (1 + power);
        }
    } else if (scores.activation == "exp") {
        std::transform(values.begin(), values.end(), values.begin(), [](double value) { return std::exp(value); });
    }
    return values;
}

void require_finite(const float *outputs, std::size_t count, const Scores &scores) {
    // Logarithms may be minus infinity, which stands for 0.
    const bool logarithms = scores.activation == "exp";
    const bool usable = std::all_of(outputs, outputs + count, [&](float value) {
        return std::isfinite(value) || (logarithms && std::isinf(value) && value < 0);
    });
    if (!usable) {
        throw bad_input(
            {"the outputs of the model are not finite", "pixels", {}, {}, "run `paraexport validate` on the bundle"});
    }
}

void require_probabilities(const std::vector<Answer> &answers) {
    const auto [low, high] = std::minmax_element(
        answers.begin(), answers.end(), [](const Answer &one, const Answer &other) { return one.score < other.score; });
    if (!(low->score >= -ROUNDING && high->score <= 1 + ROUNDING)) {
        throw bad_input({"the outputs are not probabilities",
                         "pixels",
                         "0 to 1",
                         brief(low->score, 4) + " to " + brief(high->score, 4),
                         {}});
    }
}

double as_logit(double value, const Scores &scores) {
    if (scores.activation == "exp") {
        return value > LOWEST_LOGARITHM || std::isnan(value) ? value : LOWEST_LOGARITHM;
    }
    if (scores.activation != "none" || !scores.probabilities()) {
        return value;
    }
    if (scores.kind == "exclusive") {
        return std::log(value > SMALLEST || std::isnan(value) ? value : SMALLEST);
    }
    const double bounded = std::isnan(value) ? value : std::clamp(value, NEAR_CERTAIN, 1 - NEAR_CERTAIN);
    return std::log(bounded / (1 - bounded));
}

template <typename Scale>
double largest_ratio(const std::vector<float> &expected, const std::vector<float> &got, Scale scale) {
    double difference = 0, largest = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double reference = scale(expected[i]), delta = std::fabs(scale(got[i]) - reference);
        if (std::isnan(delta) || std::isinf(delta)) {
            return std::numeric_limits<double>::quiet_NaN();
        }
        difference = std::max(difference, delta);
        largest = std::max(largest, std::fabs(reference));
    }
    return largest > 0 ? difference / largest : difference;
}

}  // namespace

std::vector<Answer> ranked(const float *outputs, const std::vector<std::string> &labels, const Scores &scores) {
    const std::size_t count = labels.size();
    require_finite(outputs, count, scores);
    const std::vector<double> values = scores_of(outputs, count, scores);
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (scores.kind != "values") {
        std::stable_sort(order.begin(), order.end(),
                         [&](std::size_t one, std::size_t other) { return outputs[one] > outputs[other]; });
    }
    std::vector<Answer> answers;
    answers.reserve(count + 1);
    for (const std::size_t index : order) {
        answers.push_back({static_cast<int>(index), &labels[index], values[index]});
    }
    if (!scores.negative.empty() && count == 1) {
        answers.push_back({-1, &scores.negative, 1 - answers[0].score});
        std::stable_sort(answers.begin(), answers.end(),
                         [](const Answer &one, const Answer &other) { return one.score > other.score; });
    }
    if (scores.probabilities()) {
        require_probabilities(answers);
    }
    return answers;
}

double relative_difference(const std::vector<float> &expected, const std::vector<float> &got, const Scores &scores) {
    const double logits = largest_ratio(expected, got, [&](float value) { return as_logit(value, scores); });
    if (scores.activation != "none" || std::isnan(logits)) {
        return logits;
    }
    const double outputs = largest_ratio(expected, got, [](float value) { return static_cast<double>(value); });
    return std::isnan(outputs) ? outputs : std::max(logits, outputs);
}

}  // namespace paraexport::core
