#include "golden.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>

#include "bundle/safetensors.hpp"
#include "error.hpp"

namespace paraexport::core {
namespace {

using Tensors = std::map<std::string, Tensor>;
using Shape = std::vector<std::size_t>;

/// The beginning of the names of logits with fewer branches.
constexpr std::string_view FIRST = "first_branches.";

Error malformed(const std::string &where, std::string expected, std::string got) {
    return bad_input({"the golden file is malformed", where, std::move(expected), std::move(got), COPY_AGAIN});
}

std::string list_text(const Shape &shape) {
    std::string text;
    for (const std::size_t size : shape) {
        text += (text.empty() ? "" : ", ") + std::to_string(size);
    }
    return "[" + text + "]";
}

Tensors parse(std::string_view content, const std::string &where) {
    std::string got;
    try {
        Tensors tensors = parse_safetensors(content);
        if (tensors.count("images") != 0 && tensors.count("logits") != 0) {
            return tensors;
        }
        got = tensors.count("images") == 0 ? "'images'" : "'logits'";
    } catch (const std::invalid_argument &error) {
        got = on_one_line(error.what());
    }
    throw bad_input({"the golden file cannot be read", where, "images and logits", got, COPY_AGAIN});
}

void require_finite(const std::vector<float> &values, const std::string &where) {
    if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
        throw bad_input({"the golden file has numbers that are not finite", where, {}, {}, COPY_AGAIN});
    }
}

/// The raw images, from the tensors `pixels.K`, `prepared.K` and `logits.K`, which are all that is left.
void add_raw(const Tensors &tensors, const Shape &image, const Shape &classes, const std::string &where,
             Golden &golden) {
    const auto is_pixels = [](const auto &named) { return named.first.rfind("pixels.", 0) == 0; };
    const auto count = static_cast<std::size_t>(std::count_if(tensors.begin(), tensors.end(), is_pixels));
    bool complete = tensors.size() == 3 * count;
    for (std::size_t number = 0; complete && number < count; ++number) {
        for (const char *name : {"pixels.", "prepared.", "logits."}) {
            complete = complete && tensors.count(name + std::to_string(number)) != 0;
        }
    }
    if (!complete) {
        std::string got;
        std::size_t shown = 0;
        for (auto named = tensors.begin(); named != tensors.end() && shown < 4; ++named, ++shown) {
            got += (got.empty() ? "" : ", ") + named->first;
        }
        throw malformed(where, "pixels.K, prepared.K and logits.K for K = 0, 1, …", got);
    }
    for (std::size_t number = 0; number < count; ++number) {
        const std::string suffix = std::to_string(number);
        const Tensor &pixels = tensors.at("pixels." + suffix), &prepared = tensors.at("prepared." + suffix);
        const Tensor &logits = tensors.at("logits." + suffix);
        const bool fits = pixels.dtype == "U8" && pixels.shape.size() == 3 && pixels.count() > 0 &&
                          pixels.shape[2] == image[0] && prepared.dtype == "F32" && prepared.shape == image &&
                          logits.dtype == "F32" && logits.shape == classes;
        if (!fits) {
            throw bad_input({"raw image " + suffix + " of the golden file is malformed", where,
                             "uint8 [H, W, " + std::to_string(image[0]) + "], float32 " + list_text(image) +
                                 ", float32 " + list_text(classes),
                             pixels.text() + ", " + prepared.text() + ", " + logits.text(), COPY_AGAIN});
        }
        RawImage raw{pixels.shape[0], pixels.shape[1], {pixels.bytes.begin(), pixels.bytes.end()}, prepared.floats()};
        const std::vector<float> answer = logits.floats();
        golden.images.insert(golden.images.end(), raw.prepared.begin(), raw.prepared.end());
        golden.logits.insert(golden.logits.end(), answer.begin(), answer.end());
        golden.raw.push_back(std::move(raw));
    }
    golden.count += count;
}

/// Whether it is the name of a tensor `first_branches.K`.
bool is_first(const std::string &name) {
    if (name.rfind(FIRST, 0) != 0) {
        return false;
    }
    const std::string number = name.substr(FIRST.size());
    return !number.empty() && number.size() <= 9 && number[0] != '0' &&
           std::all_of(number.begin(), number.end(), [](char letter) { return letter >= '0' && letter <= '9'; });
}

/// Take the tensors `first_branches.K` out of `tensors`.
Tensors take_first(Tensors &tensors) {
    Tensors first;
    for (auto named = tensors.begin(); named != tensors.end();) {
        const auto next = std::next(named);
        if (is_first(named->first)) {
            first.insert(tensors.extract(named));
        }
        named = next;
    }
    return first;
}

/// Check the logits of fewer branches, and make those of the first `count` branches the logits; 0 for all.
void use_first(const Tensors &first, std::int64_t count, std::size_t classes, const std::string &where,
               Golden &golden) {
    const Shape expected{golden.count, classes};
    for (const auto &[name, tensor] : first) {
        if (tensor.dtype == "F32") {
            require_finite(tensor.floats(), where);
        }
        if (tensor.dtype != "F32" || tensor.shape != expected) {
            throw bad_input({"the logits of " + name.substr(FIRST.size()) + " branches in the golden file are malformed",
                             where, "float32 " + list_text(expected), tensor.text(), COPY_AGAIN});
        }
    }
    if (count == 0) {
        return;
    }
    const auto chosen = first.find(std::string{FIRST} + std::to_string(count));
    if (chosen == first.end()) {
        throw bad_input({"the golden file has no logits for " + std::to_string(count) + " branches", where, {}, {},
                         COPY_AGAIN});
    }
    golden.logits = chosen->second.floats();
}

}  // namespace

Golden parse_golden(std::string_view content, const Manifest &manifest, std::int64_t first, const std::string &where) {
    Tensors tensors = parse(content, where);
    const Tensor images = tensors.at("images"), logits = tensors.at("logits");
    if (images.dtype != "F32" || images.shape.size() != 4 || logits.dtype != "F32" || logits.shape.size() != 2 ||
        images.shape[0] != logits.shape[0] || images.shape[0] == 0) {
        throw malformed(where, "float32 images [n, C, H, W] and logits [n, classes], n at least 1",
                        images.text() + " and " + logits.text());
    }
    tensors.erase("images");
    tensors.erase("logits");
    const Shape image{images.shape.begin() + 1, images.shape.end()}, classes{logits.shape[1]};
    Golden golden{images.shape[0], images.floats(), logits.floats(), {}};
    const Tensors fewer = take_first(tensors);
    add_raw(tensors, image, classes, where, golden);
    require_finite(golden.images, where);
    require_finite(golden.logits, where);
    use_first(fewer, first, classes[0], where, golden);
    const Preprocessing &size = manifest.preprocessing;
    const Shape expected{size.channels, size.height, size.width};
    if (image != expected || classes[0] != manifest.labels.size()) {
        throw bad_input({"the golden file belongs to another model",
                         where,
                         "[" + list_text(expected) + ", [" + std::to_string(manifest.labels.size()) + "]]",
                         "[" + list_text(image) + ", " + list_text(classes) + "]",
                         {}});
    }
    return golden;
}

}  // namespace paraexport::core
