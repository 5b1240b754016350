#include "engine.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <thread>

#include "error.hpp"
#include "image/prepare.hpp"

namespace paraexport::core {
namespace {

void add_differences(const char *side, const TensorInfo &expected, const std::vector<TensorInfo> &got,
                     std::string &differences) {
    std::string difference;
    if (got.size() != 1) {
        difference = std::to_string(got.size()) + " " + side + "s, the manifest lists 1";
    } else if (got[0].text() != expected.text()) {
        difference = std::string{side} + " " + got[0].text() + ", the manifest says " + expected.text();
    }
    if (!difference.empty()) {
        differences += (differences.empty() ? "" : "; ") + difference;
    }
}

void require_float32(const Manifest &manifest, const std::string &where) {
    for (const TensorInfo *tensor : {&manifest.input, &manifest.output}) {
        if (tensor->dtype != "float32") {
            throw bad_input(
                {"the model takes or gives other numbers than float32", where, {}, tensor->text(), COPY_AGAIN});
        }
    }
}

std::unique_ptr<Session> opened(const Bundle &bundle, const EngineOptions &options) {
    const std::string &path = bundle.files->path(), &target = bundle.manifest.target;
    if (!options.target.empty() && options.target != target) {
        throw bad_input({"the bundle is for another target", path, options.target, target,
                         "build a bundle with --target " + options.target});
    }
    std::unique_ptr<Session> session;
    try {
        session = open_session({bundle, options.threads, options.library});
    } catch (const std::runtime_error &error) {
        if (bundle.by_path) {
            bundle.files->require_unchanged();
        }
        throw runtime_error(target + " cannot open the model", path, bundle.files->named(error.what()));
    }
    if (bundle.by_path) {
        bundle.files->require_unchanged();
    }
    std::string differences;
    add_differences("input", bundle.manifest.input, session->inputs(), differences);
    add_differences("output", bundle.manifest.output, session->outputs(), differences);
    if (!differences.empty()) {
        throw bad_input({"the model does not match the manifest", path, {}, on_one_line(differences), COPY_AGAIN});
    }
    require_float32(bundle.manifest, path);
    return session;
}

}  // namespace

int checked_threads(int threads) {
    const int cpus = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    const int most = std::max(4 * cpus, 64);
    if (threads < 0 || threads > most) {
        throw bad_input({"the number of threads is not possible",
                         {},
                         "a whole number from 1 to " + std::to_string(most),
                         std::to_string(threads),
                         "leave it out, or give about " + std::to_string(cpus) +
                             ", the number of CPUs here; more threads are not faster"});
    }
    return threads;
}

Engine::Engine(std::shared_ptr<Files> files, const EngineOptions &options)
    : bundle_{verified_bundle(std::move(files), options.branches)}, session_{opened(bundle_, options)} {
    bundle_.model = {};  // the runtime has its own copy
    bundle_.weights = {};
    if (bundle_.files->in_memory() && bundle_.files->has(GOLDEN_FILE)) {
        golden_ = bundle_.files->read(GOLDEN_FILE);
    }
}

void Engine::run(const float *images, std::size_t count, float *logits) const {
    const Manifest &facts = bundle_.manifest;
    for (std::size_t at = 0; at < count; at += facts.max_batch) {
        const std::size_t batch = std::min(facts.max_batch, count - at);
        try {
            session_->run(images + at * facts.image_numbers(), batch, logits + at * facts.labels.size());
        } catch (const std::runtime_error &error) {
            throw runtime_error(facts.target + " failed on a batch of " + std::to_string(batch), bundle_.files->path(),
                                bundle_.files->named(error.what()));
        }
    }
}

void Engine::prepare(const paraexport_pixels &pixels, float *image) const {
    core::prepare(pixels, bundle_.manifest.preprocessing, image);
}

std::vector<Answer> Engine::classify(const paraexport_pixels &pixels) const {
    std::vector<float> image(bundle_.manifest.image_numbers()), logits(bundle_.manifest.labels.size());
    prepare(pixels, image.data());
    run(image.data(), 1, logits.data());
    return answers(logits.data());
}

std::vector<Answer> Engine::answers(const float *logits) const {
    return ranked(logits, bundle_.manifest.labels, bundle_.manifest.scores);
}

double Engine::check() const {
    const Manifest &facts = bundle_.manifest;
    const std::string where = bundle_.files->where(GOLDEN_FILE);
    const Golden golden = parse_golden(golden_.empty() ? bundle_.files->read(GOLDEN_FILE) : golden_, facts, bundle_.first, where);
    std::vector<float> image(facts.image_numbers());
    for (std::size_t number = 0; number < golden.raw.size(); ++number) {
        const RawImage &raw = golden.raw[number];
        paraexport_pixels pixels{};
        pixels.size = sizeof pixels;
        pixels.data = raw.pixels.data();
        pixels.height = raw.height;
        pixels.width = raw.width;
        pixels.channels = facts.preprocessing.channels;
        prepare(pixels, image.data());
        if (std::memcmp(image.data(), raw.prepared.data(), image.size() * sizeof(float)) != 0) {
            throw Error{PARAEXPORT_CHECK_FAILED,
                        {"preprocessing gives other values than in the build",
                         where,
                         {},
                         "a difference in raw image " + std::to_string(number),
                         "report this as a bug"}};
        }
    }
    std::vector<float> logits(golden.logits.size());
    run(golden.images.data(), golden.count, logits.data());
    return relative_difference(golden.logits, logits, facts.scores);
}

double Engine::limit() const {
    if (!bundle_.manifest.parity_limit) {
        throw bad_input(
            {"the manifest has no limit for the check `parity`", bundle_.files->path(), {}, {}, COPY_AGAIN});
    }
    return *bundle_.manifest.parity_limit;
}

}  // namespace paraexport::core
