#include "runtimes/known.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include "error.hpp"

namespace paraexport::core {
namespace {

constexpr const char *REMEDY = "update paraexport, or build the bundle again";

std::string joined(const std::vector<std::string> &names) {
    std::string text;
    for (const std::string &name : names) {
        text += (text.empty() ? "" : ", ") + name;
    }
    return text.empty() ? "none" : text;
}

void require_all(const char *what, const std::vector<std::string> &known, const std::vector<const Settings *> &given,
                 const std::string &where) {
    std::vector<std::string> unknown;
    for (const Settings *settings : given) {
        for (const auto &setting : *settings) {
            if (std::find(known.begin(), known.end(), setting.first) == known.end()) {
                unknown.push_back(setting.first);
            }
        }
    }
    if (!unknown.empty()) {
        std::sort(unknown.begin(), unknown.end());
        throw bad_input(
            {std::string{"unknown runtime "} + what, where, "some of " + joined(known), joined(unknown), REMEDY});
    }
}

void require_word(const char *what, const std::string &expected, const std::string &got, const std::string &where) {
    if (expected != got) {
        throw bad_input({std::string{"unknown runtime "} + what, where, expected, got, REMEDY});
    }
}

/// `2.13.0+cpu` -> 2, 13, 0, 0.
std::array<unsigned long, 4> release(const std::string &version) {
    std::array<unsigned long, 4> numbers{};
    std::size_t part = 0;
    bool digit_before = false;
    for (const char letter : version) {
        if (std::isdigit(static_cast<unsigned char>(letter)) != 0) {
            numbers[part] = std::min(numbers[part], 100'000'000UL) * 10 + static_cast<unsigned long>(letter - '0');
            digit_before = true;
        } else if (letter == '.' && digit_before && part + 1 < numbers.size()) {
            ++part;
            digit_before = false;
        } else {
            break;
        }
    }
    return numbers;
}

}  // namespace

void Known::require(const Runtime &runtime, const std::string &where) const {
    require_word("library", library, runtime.library, where);
    require_word("file", file, runtime.file, where);
    require_word("device", device, runtime.device, where);
    require_all("setting", settings, {&runtime.settings, &runtime.settings_if_int8_saturates}, where);
    require_all("device option", device_options, {&runtime.device_options}, where);
    require_all("environment variable", environment, {&runtime.environment}, where);
}

bool is_older(const std::string &version, const std::string &other) {
    return release(version) < release(other);
}

void require_version(const Runtime &runtime, const std::string &installed, const std::string &where) {
    if (is_older(installed, runtime.minimum_version)) {
        throw missing({runtime.library + " is too old for this bundle", where, runtime.minimum_version + " or later",
                       installed, "pip install '" + runtime.library + ">=" + runtime.minimum_version + "'"});
    }
}

std::vector<std::int8_t> SaturationProbe::weight() {
    std::vector<std::int8_t> weight(INNER * COLUMNS);
    for (std::size_t i = 0; i < weight.size(); ++i) {
        weight[i] = i % COLUMNS % 2 == 0 ? -127 : 127;
    }
    return weight;
}

bool SaturationProbe::is_exact(const std::vector<double> &products) {
    for (std::size_t i = 0; i < products.size(); ++i) {
        if (products[i] != (i % COLUMNS % 2 == 0 ? -1.0 : 1.0) * 255 * 127 * static_cast<double>(INNER)) {
            return false;
        }
    }
    return !products.empty();
}

}  // namespace paraexport::core
