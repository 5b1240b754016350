#include "bundle/manifest.hpp"

#include <algorithm>
#include <stdexcept>

#include "bundle/contradictions.hpp"
#include "bundle/json.hpp"
#include "bundle/schema.hpp"
#include "bundle/sha256.hpp"
#include "error.hpp"

namespace paraexport::core {
namespace {

constexpr std::int64_t OLDEST_FORMAT = 1, NEWEST_FORMAT = 2;
constexpr std::size_t MOST_UNKNOWN = 5;

std::string joined(const std::vector<std::string> &parts, const char *separator) {
    std::string text;
    for (const std::string &part : parts) {
        text += (text.empty() ? "" : separator) + part;
    }
    return text;
}

/// sha256 of the content, with zeros in place of its own digest.
std::string digest_of(std::string_view content, const std::string &digest) {
    const std::string zeros(64, '0');
    const std::size_t at = content.find(digest);
    Sha256 hash;
    if (at == std::string_view::npos) {
        hash.update(content.data(), content.size());
    } else {
        hash.update(content.data(), at);
        hash.update(zeros.data(), zeros.size());
        hash.update(content.data() + at + digest.size(), content.size() - at - digest.size());
    }
    return hash.hex();
}

Json parse(std::string_view content, const std::string &file) {
    try {
        Json raw = parse_json(content);
        if (raw.kind != Json::Kind::object) {
            throw bad_input({"the manifest is not a JSON object", file, {}, raw.kind_name(), COPY_AGAIN});
        }
        return raw;
    } catch (const std::invalid_argument &error) {
        throw bad_input({"the manifest is not JSON", file, {}, on_one_line(error.what()), COPY_AGAIN});
    }
}

void require_valid(const Json &raw, std::string_view content, const std::string &bundle, const std::string &file) {
    if (const Json *format = raw.find("format");
        format != nullptr && format->kind == Json::Kind::integer && format->integer > NEWEST_FORMAT) {
        throw bad_input({"the bundle has a newer format", bundle, "at most " + std::to_string(NEWEST_FORMAT),
                         std::to_string(format->integer), "update paraexport"});
    }
    if (std::string error = type_error(raw, MANIFEST_TYPE); !error.empty()) {
        throw bad_input({"the manifest is malformed", file, {}, std::move(error), COPY_AGAIN});
    }
    if (std::vector<std::string> unknown = unknown_fields(raw, MANIFEST_TYPE); !unknown.empty()) {
        std::sort(unknown.begin(), unknown.end());
        unknown.resize(std::min(unknown.size(), MOST_UNKNOWN));
        throw bad_input({"the manifest has unknown fields", file, {}, joined(unknown, ", "), COPY_AGAIN});
    }
    const std::int64_t format = raw.find("format")->integer;
    if (format < OLDEST_FORMAT || format > NEWEST_FORMAT) {
        throw bad_input({"the bundle has an unknown format", bundle,
                         std::to_string(OLDEST_FORMAT) + " to " + std::to_string(NEWEST_FORMAT), std::to_string(format),
                         COPY_AGAIN});
    }
    const std::string &digest = raw.find("digest")->string;
    if (digest_of(content, digest) != digest) {
        throw bad_input({"the manifest was changed", file, "sha256 " + digest, {}, COPY_AGAIN});
    }
    if (const std::vector<std::string> problems = contradictions(raw); !problems.empty()) {
        throw bad_input({"the manifest contradicts itself: " + joined(problems, "; "), file, {}, {}, COPY_AGAIN});
    }
}

Settings settings_in(const Json &runtime, const char *name) {
    Settings settings;
    if (const Json *block = runtime.find(name)) {
        for (const auto &[key, value] : block->members) {
            settings[key] = value.string;
        }
    }
    return settings;
}

Runtime runtime_in(const Json &raw) {
    const auto text = [&](const char *name) { return raw.find(name)->string; };
    return {text("library"),
            text("minimum_version"),
            text("file"),
            text("device"),
            settings_in(raw, "settings"),
            settings_in(raw, "settings_if_int8_saturates"),
            settings_in(raw, "device_options"),
            settings_in(raw, "environment")};
}

TensorInfo tensor_in(const Json &raw) {
    TensorInfo tensor{raw.find("name")->string, raw.find("dtype")->string, {}};
    for (const Json &size : raw.find("shape")->items) {
        tensor.shape.push_back(size.kind == Json::Kind::integer ? size.integer : -1);
    }
    return tensor;
}

std::vector<float> floats_in(const Json &raw, const char *name) {
    const Json *values = raw.find(name);
    if (values == nullptr) {
        return {0.5F};
    }
    std::vector<float> floats;
    floats.reserve(values->items.size());
    for (const Json &value : values->items) {
        floats.push_back(static_cast<float>(value.real));
    }
    return floats;
}

Preprocessing preprocessing_in(const Json &raw) {
    const auto size = [](const Json &value) { return static_cast<std::size_t>(value.integer); };
    const Json &crop = *raw.find("image_size"), &resize = *raw.find("resize"), *how = raw.find("interpolation");
    const bool shorter = resize.kind == Json::Kind::integer;
    return {size(*raw.find("channels")),
            size(crop.items[0]),
            size(crop.items[1]),
            shorter,
            shorter ? size(resize) : size(resize.items[0]),
            shorter ? 0 : size(resize.items[1]),
            how == nullptr ? "bilinear" : how->string,
            floats_in(raw, "mean"),
            floats_in(raw, "std")};
}

std::optional<double> parity_limit_in(const Json &checks) {
    std::optional<double> limit;
    for (const Json &check : checks.items) {
        if (check.find("name")->string == "parity") {
            limit = check.find("limit")->real;
        }
    }
    return limit;
}

Scores scores_in(const Json *raw, std::size_t outputs) {
    Scores scores;
    std::string reason;
    if (raw != nullptr) {
        const auto read = [&](const char *name, std::string &into) {
            if (const Json *value = raw->find(name)) {
                into = value->string;
            }
        };
        read("activation", scores.activation);
        read("kind", scores.kind);
        read("negative", scores.negative);
        read("reason", reason);
    }
    // Older bundles do not record scores. With one output they mean a sigmoid.
    if (outputs == 1 && scores.activation == "softmax" && reason.empty() && scores.negative.empty()) {
        return {"sigmoid", "independent", ""};
    }
    return scores;
}

}  // namespace

std::string TensorInfo::text() const {
    std::string sizes;
    for (const std::int64_t size : shape) {
        sizes += (sizes.empty() ? "" : ", ") + (size < 0 ? "?" : std::to_string(size));
    }
    return name + " " + dtype + " [" + sizes + "]";
}

Settings Runtime::settings_for(bool saturates) const {
    Settings all = settings;
    if (saturates) {
        for (const auto &[name, value] : settings_if_int8_saturates) {
            all[name] = value;
        }
    }
    return all;
}

bool is_inside(std::string_view name) {
    if (name.empty() || name.front() == '/' || name.find('\\') != std::string_view::npos ||
        name.find('\0') != std::string_view::npos) {
        return false;
    }
    for (std::size_t start = 0; start <= name.size();) {
        const std::size_t end = std::min(name.find('/', start), name.size());
        const std::string_view step = name.substr(start, end - start);
        if (step.empty() || step == "." || step == "..") {
            return false;
        }
        start = end + 1;
    }
    return true;
}

Manifest decode_manifest(std::string_view content, const std::string &bundle) {
    const std::string file = bundle + "/" + MANIFEST_FILE;
    const Json raw = parse(content, file);
    require_valid(raw, content, bundle, file);
    Manifest manifest;
    manifest.target = raw.find("target")->string;
    manifest.precision = raw.find("precision")->string;
    manifest.layout = raw.find("layout")->string;
    if (const Json *runtime = raw.find("runtime"); runtime != nullptr && runtime->kind == Json::Kind::object) {
        manifest.runtime = runtime_in(*runtime);
    }
    manifest.max_batch = static_cast<std::size_t>(raw.find("max_batch")->integer);
    manifest.input = tensor_in(raw.find("inputs")->items[0]);
    manifest.output = tensor_in(raw.find("outputs")->items[0]);
    manifest.preprocessing = preprocessing_in(*raw.find("preprocessing"));
    const Preprocessing &size = manifest.preprocessing;
    if (static_cast<double>(size.channels) * static_cast<double>(size.height) * static_cast<double>(size.width) > 1e9) {
        throw bad_input({"the images are too large for this library", file, "at most 10^9 numbers",
                         manifest.input.text(), COPY_AGAIN});
    }
    for (const Json &label : raw.find("labels")->items) {
        manifest.labels.push_back(label.string);
    }
    manifest.scores = scores_in(raw.find("scores"), manifest.labels.size());
    manifest.parity_limit = parity_limit_in(*raw.find("checks"));
    if (const Json *spec = raw.find("spec"); spec->kind == Json::Kind::object) {
        manifest.branches = spec->find("branches")->integer;
    }
    if (const Json *smaller = raw.find("fewer_branches")) {
        for (const Json &model : smaller->items) {
            manifest.fewer_branches.push_back({model.find("branches")->integer, model.find("file")->string,
                                               parity_limit_in(*model.find("checks"))});
        }
    }
    for (const auto &[name, entry] : raw.find("files")->members) {
        manifest.files[name] = {entry.find("sha256")->string, entry.find("size_bytes")->integer};
    }
    return manifest;
}

}  // namespace paraexport::core
