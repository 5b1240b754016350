/// The part of `manifest.json` that is needed to run a bundle. `docs/bundle.md` explains each field.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace paraexport::core {

inline constexpr const char *MANIFEST_FILE = "manifest.json";
inline constexpr const char *MODEL_FILE = "model.onnx";
inline constexpr const char *WEIGHTS_FILE = "model.onnx.data";
inline constexpr const char *ENGINE_FILE = "model.engine";
inline constexpr const char *GOLDEN_FILE = "golden.safetensors";
inline constexpr std::size_t MANIFEST_BYTES = std::size_t{1} << 26;

using Settings = std::map<std::string, std::string>;

/// An input or output of the model. A symbolic axis is -1.
struct TensorInfo {
    std::string name;
    std::string dtype;
    std::vector<std::int64_t> shape;

    /// `images float32 [?, 3, 32, 32]`.
    std::string text() const;
};

struct FileEntry {
    std::string sha256;
    std::int64_t size_bytes = 0;
};

/// How a program opens the model.
struct Runtime {
    std::string library, minimum_version, file, device;
    Settings settings, settings_if_int8_saturates, device_options, environment;

    /// The settings on a CPU whose products of uint8 and int8 saturate, or do not.
    Settings settings_for(bool saturates) const;
};

struct Preprocessing {
    std::size_t channels, height, width;  ///< after the crop
    bool resize_shorter;                  ///< whether `resize_height` is the new length of the shorter side
    std::size_t resize_height, resize_width;
    std::string interpolation;
    std::vector<float> mean, std;  ///< one number, or one for each channel
};

struct Scores {
    std::string activation = "softmax", kind = "exclusive", negative;

    bool probabilities() const { return kind == "exclusive" || kind == "independent"; }
};

/// A model with only the first branches. It shares its weights with the whole one.
struct FewerBranches {
    std::int64_t branches;
    std::string file;
    std::optional<double> parity_limit;
};

struct Manifest {
    std::string target, precision, layout;
    std::optional<Runtime> runtime;  ///< format 1 has none
    std::int64_t branches = 0;       ///< 0 for a module that was not recognised as a Para-Former
    std::vector<FewerBranches> fewer_branches;
    std::size_t max_batch = 1;
    TensorInfo input, output;
    Preprocessing preprocessing{};
    std::vector<std::string> labels;
    Scores scores;
    std::optional<double> parity_limit;
    std::map<std::string, FileEntry> files;

    std::size_t image_numbers() const { return preprocessing.channels * preprocessing.height * preprocessing.width; }
};

/// Decode a manifest and verify its digest. `bundle` is the path of the bundle, for messages.
///
/// Throws an Error for a manifest that is malformed, was changed, contradicts itself, or needs a newer library.
Manifest decode_manifest(std::string_view content, const std::string &bundle);

/// Whether a file name with `/` as separator stays inside the folder.
bool is_inside(std::string_view name);

}  // namespace paraexport::core
