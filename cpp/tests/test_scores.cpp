#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "error.hpp"
#include "scores.hpp"

using namespace paraexport::core;

namespace {

const std::vector<std::string> LABELS{"a", "b", "c"};
constexpr float INF = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("softmax ranks the largest output first, and equal ones in their order") {
    const float outputs[] = {1, 3, 1};
    const auto answers = ranked(outputs, LABELS, {});
    CHECK(*answers[0].label == "b");
    CHECK(answers[0].score == doctest::Approx(std::exp(2) / (std::exp(2) + 2)));
    CHECK(answers[1].index == 0);
    CHECK(answers[2].index == 2);
}

TEST_CASE("a model with one output has a label for no") {
    const float output[] = {-2};
    const std::vector<std::string> labels{"cat"};
    const Scores scores{"sigmoid", "independent", "no cat"};
    const auto answers = ranked(output, labels, scores);
    CHECK(*answers[0].label == "no cat");
    CHECK(answers[0].index == -1);
    CHECK(answers[0].score + answers[1].score == doctest::Approx(1));
}

TEST_CASE("values keep their order, and logarithms may be minus infinity") {
    const float outputs[] = {1, 3, 2};
    CHECK(ranked(outputs, LABELS, {"none", "values", ""})[1].score == 3);
    const float logarithms[] = {0, -INF, -INF};
    CHECK(ranked(logarithms, LABELS, {"exp", "exclusive", ""})[0].score == 1);
    CHECK_THROWS_AS(ranked(logarithms, LABELS, {}), Error);
    CHECK_THROWS_AS(ranked(outputs, LABELS, {"none", "exclusive", ""}), Error);
    const float nan[] = {NAN, 0, 0};
    CHECK_THROWS_AS(ranked(nan, LABELS, {}), Error);
}

TEST_CASE("differences are relative to the largest output, and NaN is never small") {
    CHECK(relative_difference({1, -4}, {1, -3}, {}) == doctest::Approx(0.25));
    CHECK(relative_difference({0, 0}, {0, 1}, {}) == 1);
    CHECK(std::isnan(relative_difference({1, 2}, {NAN, 2}, {})));
    CHECK(std::isnan(relative_difference({1, 2}, {INF, 2}, {"none", "exclusive", ""})));
    // A probability near 0 hides its error; its logarithm does not.
    CHECK(relative_difference({1, 1e-5F}, {1, 2e-5F}, {"none", "exclusive", ""}) > 0.05);
}
