#include "bundle/fewer_branches.hpp"

#include <algorithm>

#include "bundle/contradictions.hpp"
#include "error.hpp"

namespace paraexport::core {
namespace {

std::string file_of(std::int64_t count) {
    return "model.first" + std::to_string(count) + ".onnx";
}

bool is_object(const Json *value) {
    return value != nullptr && value->kind == Json::Kind::object;
}

Error no_such_branches(const Manifest &manifest, std::int64_t count, const std::string &bundle) {
    const std::string all = std::to_string(manifest.branches);
    std::string expected, remedy = "leave the number out";
    if (!manifest.fewer_branches.empty()) {
        expected = "one of ";
        for (const FewerBranches &model : manifest.fewer_branches) {
            expected += std::to_string(model.branches) + ", ";
        }
        expected += all;
        remedy = "give one of these";
    } else if (manifest.branches != 0) {
        expected = manifest.branches > 1 ? "all " + all + " branches" : "its 1 branch";
        if (count >= 1 && count < manifest.branches) {
            remedy = "build it with --branches-at-load";
        }
    }
    return bad_input({"the bundle has no model with this number of branches", bundle, expected, std::to_string(count),
                      remedy});
}

}  // namespace

void check_fewer_branches(const Json &manifest, std::vector<std::string> &clauses) {
    const Json *smaller = manifest.find("fewer_branches");
    if (smaller == nullptr || smaller->items.empty()) {
        return;
    }
    const Json *spec = manifest.find("spec"), *runtime = manifest.find("runtime");
    if (!is_object(spec) || !is_object(runtime) || runtime->find("file")->string != MODEL_FILE) {
        clauses.push_back("models with fewer branches, but the whole model has no spec or runs from another file");
        return;
    }
    const std::int64_t all = spec->find("branches")->integer;
    std::int64_t before = 0;
    std::string counts;
    bool possible = true;
    for (const Json &model : smaller->items) {
        const std::int64_t count = model.find("branches")->integer;
        counts += (counts.empty() ? "" : ", ") + std::to_string(count);
        possible = possible && before < count && count < all;
        before = count;
    }
    if (!possible) {
        clauses.push_back("models with " + counts + " of " + std::to_string(all) + " branches");
    }
    const std::string &precision = manifest.find("precision")->string;
    for (const Json &model : smaller->items) {
        const std::int64_t count = model.find("branches")->integer;
        const std::string &file = model.find("file")->string, branches = std::to_string(count) + " branches";
        if (file != file_of(count) || manifest.find("files")->find(file) == nullptr) {
            clauses.push_back("the model with " + branches + " is " + file + ", which is another name or not listed");
        }
        add_failed_checks(*model.find("checks"), " of " + branches, clauses);
        if ((precision == "fp32") == is_object(model.find("lowering"))) {
            clauses.push_back(branches + " with another precision than " + precision);
        }
    }
}

std::string choose_branches(Manifest &manifest, std::int64_t count, const std::string &bundle) {
    const std::vector<FewerBranches> &smaller = manifest.fewer_branches;
    const auto chosen = std::find_if(smaller.begin(), smaller.end(),
                                     [&](const FewerBranches &model) { return model.branches == count; });
    if (chosen == smaller.end()) {
        throw no_such_branches(manifest, count, bundle);
    }
    manifest.branches = count;
    manifest.parity_limit = chosen->parity_limit;
    return chosen->file;
}

}  // namespace paraexport::core
