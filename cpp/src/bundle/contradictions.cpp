#include "bundle/contradictions.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "bundle/fewer_branches.hpp"
#include "bundle/manifest.hpp"
#include "error.hpp"

namespace paraexport::core {
namespace {

using Clauses = std::vector<std::string>;

constexpr std::int64_t MOST_BATCH = 4096, BATCH_BYTES = std::int64_t{1} << 31;
constexpr std::int64_t LONGEST_SIDE = 1 << 16, MOST_COUNT = 1000000;
constexpr double MOST_PIXEL = 1e4, LEAST_STD = 1e-6;

const Json &get(const Json &object, const char *name) {
    static const Json none;
    const Json *value = object.find(name);
    return value == nullptr ? none : *value;
}

using paraexport::core::brief;

std::string brief(const Json &numbers) {
    std::string text;
    for (const Json &number : numbers.items) {
        text += (text.empty() ? "" : ",") + brief(number.real);
    }
    return text;
}

std::string number(const Json &value) {
    return value.kind == Json::Kind::integer ? std::to_string(value.integer) : "'" + value.string + "'";
}

std::string list_text(const std::vector<const Json *> &values) {
    std::string text;
    for (const Json *value : values) {
        text += (text.empty() ? "" : ", ") + number(*value);
    }
    return "[" + text + "]";
}

void check_preprocessing(const Json &preprocessing, Clauses &clauses) {
    const Json &resize = get(preprocessing, "resize");
    const auto check_sides = [&](const std::string &name, const std::vector<const Json *> &sizes) {
        std::string text;
        bool possible = true;
        for (const Json *size : sizes) {
            text += (text.empty() ? "" : " x ") + std::to_string(size->integer);
            possible = possible && size->integer >= 1 && size->integer <= LONGEST_SIDE;
        }
        if (!possible) {
            clauses.push_back(name + " is " + text + ", expected 1 to " + std::to_string(LONGEST_SIDE) + " pixels");
        }
    };
    const auto both = [](const Json &pair) { return std::vector<const Json *>{&pair.items[0], &pair.items[1]}; };
    check_sides("image_size", both(get(preprocessing, "image_size")));
    check_sides("resize", resize.kind == Json::Kind::array ? both(resize) : std::vector<const Json *>{&resize});
    const std::int64_t channels = get(preprocessing, "channels").integer;
    for (const char *name : {"mean", "std"}) {
        const Json *values = preprocessing.find(name);
        if (values == nullptr) {
            continue;
        }
        const std::size_t count = values->items.size();
        if (count != 1 && static_cast<std::int64_t>(count) != channels) {
            clauses.push_back(std::string{name} + " has " + std::to_string(count) + " numbers for " +
                              std::to_string(channels) + " channels");
        }
        if (!std::all_of(values->items.begin(), values->items.end(),
                         [](const Json &value) { return std::fabs(value.real) <= MOST_PIXEL; })) {
            clauses.push_back(std::string{name} + " is " + brief(*values) + ", expected numbers up to " +
                              brief(MOST_PIXEL));
        }
    }
    if (const Json *std = preprocessing.find("std");
        std != nullptr &&
        !std::all_of(std->items.begin(), std->items.end(), [](const Json &value) { return value.real >= LEAST_STD; })) {
        clauses.push_back("std is " + brief(*std) + ", expected at least " + brief(LEAST_STD));
    }
}

void check_scores(const Json &scores, std::int64_t outputs, Clauses &clauses) {
    const auto text = [&](const char *name, const char *otherwise) {
        const Json *value = scores.find(name);
        return value == nullptr ? std::string{otherwise} : value->string;
    };
    const std::string activation = text("activation", "softmax"), kind = text("kind", "exclusive");
    const bool possible = activation == "softmax"   ? kind == "exclusive"
                          : activation == "sigmoid" ? kind == "independent"
                          : activation == "exp"     ? kind == "exclusive" || kind == "independent"
                                                    : true;
    if (!possible) {
        clauses.push_back("scores by " + activation + " are " + kind);
    }
    if (!text("negative", "").empty() && outputs != 1) {
        clauses.push_back("a negative label for " + std::to_string(outputs) + " outputs");
    }
}

void check_spec(const Json &spec, const std::vector<const Json *> &model, Clauses &clauses) {
    const auto add = [&](const std::string &clause) { clauses.push_back("spec: " + clause); };
    for (const char *name : {"channels", "classes", "dim", "branches", "depth", "heads", "head_dim", "mlp_dim"}) {
        const std::int64_t count = get(spec, name).integer;
        if (count < 1 || count > MOST_COUNT) {
            add(std::string{name} + " is " + std::to_string(count) + ", expected 1 to " + std::to_string(MOST_COUNT));
        }
    }
    const Json &size = get(spec, "image_size"), &patch = get(spec, "patch_size");
    if (std::max(size.items[0].integer, size.items[1].integer) > LONGEST_SIDE) {
        add("image_size is " + number(size.items[0]) + " x " + number(size.items[1]) + ", expected 1 to " +
            std::to_string(LONGEST_SIDE) + " pixels");
    }
    for (std::size_t side = 0; side < 2; ++side) {
        const std::int64_t whole = size.items[side].integer, part = patch.items[side].integer;
        if (part < 1 || whole < 1 || whole % part != 0) {
            const std::string name = side == 0 ? "height" : "width";
            add("image " + name + " " + std::to_string(whole) + " is not a multiple of patch " + name + " " +
                std::to_string(part));
        }
    }
    const auto flag = [&](const char *name, bool otherwise) {
        const Json *value = spec.find(name);
        return value == nullptr ? otherwise : value->boolean;
    };
    const auto word = [&](const char *name, const char *otherwise) {
        const Json *value = spec.find(name);
        return value == nullptr ? std::string{otherwise} : value->string;
    };
    if (word("pool", "cls") == "cls" && !flag("class_token", true)) {
        add("pool=cls needs a class token, and the model has none");
    }
    if (flag("patch_norms", false) && word("patch_projection", "linear") == "conv") {
        add("patch_norms needs patch_projection=linear");
    }
    if (const Json *eps = spec.find("eps"); eps != nullptr && !(eps->real > 0 && eps->real < 1)) {
        add("eps is " + brief(eps->real) + ", expected a number between 0 and 1");
    }
    const std::vector<const Json *> sizes{&get(spec, "channels"), &size.items[0], &size.items[1],
                                          &get(spec, "classes")};
    if (!std::equal(sizes.begin(), sizes.end(), model.begin(), model.end(),
                    [](const Json *one, const Json *other) { return one->integer == other->integer; })) {
        add("channels, height, width and classes are " + list_text(sizes) + ", the model has other sizes");
    }
}

void check_files(const Json &manifest, Clauses &clauses) {
    const Json &files = get(manifest, "files");
    if (files.find(MODEL_FILE) == nullptr) {
        clauses.push_back(std::string{MODEL_FILE} + " is not listed");
    }
    for (const auto &[name, entry] : files.members) {
        if (!is_inside(name)) {
            clauses.push_back(name + " is a file outside the bundle");
        }
        if (get(entry, "size_bytes").integer < 0) {
            clauses.push_back(name + " has " + number(get(entry, "size_bytes")) + " bytes");
        }
    }
}

void check_runtime(const Json &manifest, Clauses &clauses) {
    const Json &runtime = get(manifest, "runtime");
    const bool has_one = runtime.kind == Json::Kind::object;
    const std::int64_t format = get(manifest, "format").integer;
    if (has_one != (format >= 2)) {
        clauses.push_back("format " + std::to_string(format) + " with" + (has_one ? "" : "out") + " a runtime block");
    }
    if (has_one && get(manifest, "files").find(get(runtime, "file").string) == nullptr) {
        clauses.push_back("the runtime opens " + get(runtime, "file").string + ", which the manifest does not list");
    }
}

/// min(4096, images in 2 GiB), at least 1.
std::int64_t most_images(const std::vector<const Json *> &image) {
    double numbers = 1;
    for (const Json *size : image) {
        numbers *= size->real;
    }
    const double fitting = std::floor(static_cast<double>(BATCH_BYTES) / (4 * numbers));
    return fitting < 1 ? 1 : std::min(MOST_BATCH, static_cast<std::int64_t>(std::min(fitting, 1e9)));
}

}  // namespace

void add_failed_checks(const Json &checks, const std::string &whose, Clauses &clauses) {
    for (const Json &check : checks.items) {
        if (const Json &passed = get(check, "passed"); passed.kind == Json::Kind::boolean && !passed.boolean) {
            clauses.push_back("check " + get(check, "name").string + whose + " failed");
        }
    }
}

std::vector<std::string> contradictions(const Json &manifest) {
    Clauses clauses;
    const Json &inputs = get(manifest, "inputs"), &outputs = get(manifest, "outputs");
    if (inputs.items.size() != 1 || outputs.items.size() != 1 || get(inputs.items[0], "shape").items.size() != 4 ||
        get(outputs.items[0], "shape").items.size() != 2) {
        return {"expected one input [N, C, H, W] and one output [N, classes]"};
    }
    const std::vector<Json> &shape = get(inputs.items[0], "shape").items;
    const Json &classes = get(outputs.items[0], "shape").items[1];
    const std::vector<const Json *> image{&shape[1], &shape[2], &shape[3]};
    const std::vector<const Json *> sizes{&shape[1], &shape[2], &shape[3], &classes};
    if (!std::all_of(sizes.begin(), sizes.end(),
                     [](const Json *size) { return size->kind == Json::Kind::integer && size->integer > 0; })) {
        return {"expected images and classes of fixed sizes, got " + list_text(sizes)};
    }
    const std::size_t labels = get(manifest, "labels").items.size();
    if (classes.integer != static_cast<std::int64_t>(labels)) {
        clauses.push_back(std::to_string(labels) + " labels for " + std::to_string(classes.integer) + " classes");
    }
    const Json &preprocessing = get(manifest, "preprocessing"), &crop = get(preprocessing, "image_size");
    if (shape[1].integer != get(preprocessing, "channels").integer || shape[2].integer != crop.items[0].integer ||
        shape[3].integer != crop.items[1].integer) {
        clauses.push_back("the input takes images " + list_text(image) + ", preprocessing makes another size");
    }
    check_preprocessing(preprocessing, clauses);
    check_scores(get(manifest, "scores"), classes.integer, clauses);
    if (const Json &spec = get(manifest, "spec"); spec.kind == Json::Kind::object) {
        check_spec(spec, sizes, clauses);
    }
    add_failed_checks(get(manifest, "checks"), "", clauses);
    const std::string &precision = get(manifest, "precision").string;
    const bool lowered = get(manifest, "lowering").kind == Json::Kind::object;
    if ((precision == "fp32") == lowered) {
        clauses.push_back(precision + " with" + (lowered ? "" : "out") + " a record of lower precision");
    }
    const std::int64_t most = most_images(image), max_batch = get(manifest, "max_batch").integer;
    if (max_batch < 1 || max_batch > most) {
        clauses.push_back("max_batch is " + std::to_string(max_batch) + ", expected 1 to " + std::to_string(most));
    }
    check_files(manifest, clauses);
    check_fewer_branches(manifest, clauses);
    check_runtime(manifest, clauses);
    return clauses;
}

}  // namespace paraexport::core
