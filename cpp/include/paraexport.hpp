/// The C++ layer over `paraexport.h`: header only, move only, and errors as exceptions. C++17.
///
///     paraexport::Engine engine{"model.bundle"};
///     std::vector<float> logits = engine(images, count);
///
/// The rules for ownership and threads are those of `paraexport.h`. A moved-from engine is closed.
#ifndef PARAEXPORT_HPP
#define PARAEXPORT_HPP

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "paraexport.h"

namespace paraexport {

/// A call that failed: its status, and one line that names the cause and the remedy.
class Failure : public std::runtime_error {
public:
    explicit Failure(paraexport_status status) : std::runtime_error{paraexport_last_error()}, status_{status} {}

    paraexport_status status() const noexcept { return status_; }

private:
    paraexport_status status_;
};

struct Options {
    int threads = 0;      ///< threads inside one call; 0 for the runtime's default
    std::string target;   ///< refuse a bundle for another target; empty for any
    std::string runtime;  ///< file or folder of the runtime's library; empty to search for it
    int branches = 0;     ///< use only the first branches: this many; 0 for all
};

struct Info {
    std::size_t channels, height, width, classes, max_batch;
    std::string target, precision, layout, runtime_version, runtime_path;
    std::size_t branches;  ///< the branches in use; 0 if the model was not recognised as a Para-Former
};

struct Label {
    int index;  ///< the output; -1 for the label that a model with one output gives below 50 %
    std::string label;
    double score;
    double probability;  ///< the score if it is a probability, else -1
};

/// One image, uint8 [height, width, channels]. The bytes belong to the caller.
struct Pixels {
    const unsigned char *data;
    std::size_t height, width, channels;
    std::size_t stride = 0;  ///< bytes from one row to the next; 0 for width * channels
    paraexport_order order = PARAEXPORT_RGB;
};

/// A file of a bundle in memory. The bytes belong to the caller.
struct File {
    std::string name;
    const void *data;
    std::size_t size_bytes;
};

class Engine {
public:
    /// Verify and open the bundle at `path`. Throws Failure.
    explicit Engine(const std::string &path, const Options &options = {}) {
        const paraexport_options read = c_options(options);
        require(paraexport_open(path.c_str(), &read, &handle_));
        describe();
    }

    /// The same for a bundle whose files are in memory. They are not needed afterwards.
    explicit Engine(const std::vector<File> &files, const Options &options = {}) {
        std::vector<paraexport_file> all;
        for (const File &file : files) {
            all.push_back({sizeof(paraexport_file), file.name.c_str(), file.data, file.size_bytes});
        }
        const paraexport_options read = c_options(options);
        require(paraexport_open_memory(all.data(), all.size(), &read, &handle_));
        describe();
    }

    Engine(Engine &&other) noexcept : handle_{std::exchange(other.handle_, nullptr)}, info_{std::move(other.info_)} {}

    Engine &operator=(Engine &&other) noexcept {
        if (this != &other) {
            paraexport_close(handle_);
            handle_ = std::exchange(other.handle_, nullptr);
            info_ = std::move(other.info_);
        }
        return *this;
    }

    Engine(const Engine &) = delete;
    Engine &operator=(const Engine &) = delete;

    ~Engine() { paraexport_close(handle_); }

    const Info &info() const { return info_; }
    const paraexport_engine *handle() const { return handle_; }

    /// The label of one output.
    std::string label(std::size_t index) const {
        const char *text = paraexport_label(handle_, index);
        if (text == nullptr) {
            throw Failure{PARAEXPORT_BAD_INPUT};
        }
        return text;
    }

    /// float32 [count, channels, height, width] -> float32 [count, classes].
    std::vector<float> operator()(const float *images, std::size_t count) const {
        std::vector<float> logits(count * info_.classes);
        run(images, count, logits.data());
        return logits;
    }

    /// The same into the caller's memory. It adds no allocation of its own.
    void run(const float *images, std::size_t count, float *logits) const {
        require(paraexport_run(handle_, images, count, logits));
    }

    /// Pixels -> float32 [channels, height, width].
    std::vector<float> prepare(const Pixels &pixels) const {
        std::vector<float> image(info_.channels * info_.height * info_.width);
        const paraexport_pixels read = c_pixels(pixels);
        require(paraexport_prepare(handle_, &read, image.data()));
        return image;
    }

    /// The best labels for one image, the best first.
    std::vector<Label> classify(const Pixels &pixels, std::size_t most = 1) const {
        const paraexport_pixels read = c_pixels(pixels);
        return labels(most, [&](paraexport_answer *answers, std::size_t *found) {
            return paraexport_classify(handle_, &read, answers, most, found);
        });
    }

    /// The best labels for the logits of one image, float32 [classes].
    std::vector<Label> answers(const float *logits, std::size_t most = 1) const {
        return labels(most, [&](paraexport_answer *answers, std::size_t *found) {
            return paraexport_answers(handle_, logits, answers, most, found);
        });
    }

    /// Replay the golden data: max |difference of logits| / max |logit|. Throws Failure if it exceeds the limit.
    double check() const {
        double difference = 0;
        require(paraexport_check(handle_, &difference));
        return difference;
    }

private:
    static void require(paraexport_status status) {
        if (status != PARAEXPORT_OK) {
            throw Failure{status};
        }
    }

    static paraexport_options c_options(const Options &options) {
        paraexport_options read;
        PARAEXPORT_INIT(read);  // also zeros the bytes after the last field, which a later field may take
        read.threads = options.threads;
        read.target = options.target.empty() ? nullptr : options.target.c_str();
        read.runtime = options.runtime.empty() ? nullptr : options.runtime.c_str();
        read.branches = options.branches;
        return read;
    }

    static paraexport_pixels c_pixels(const Pixels &pixels) {
        return {sizeof(paraexport_pixels), pixels.data,   pixels.height, pixels.width,
                pixels.channels,           pixels.stride, pixels.order};
    }

    void describe() {
        paraexport_info info{};
        info.size = sizeof info;
        const paraexport_status status = paraexport_get_info(handle_, &info);
        if (status != PARAEXPORT_OK) {
            const Failure failure{status};
            paraexport_close(handle_);
            throw failure;
        }
        info_ = {info.channels,  info.height, info.width,           info.classes,      info.max_batch, info.target,
                 info.precision, info.layout, info.runtime_version, info.runtime_path, info.branches};
    }

    template <typename Ask>
    std::vector<Label> labels(std::size_t most, Ask ask) const {
        std::vector<paraexport_answer> answers(std::clamp<std::size_t>(most, 1, info_.classes + 1));
        std::size_t found = 0;
        answers[0].size = sizeof(paraexport_answer);
        require(ask(answers.data(), &found));
        std::vector<Label> labels;
        for (std::size_t i = 0; i < found; ++i) {
            labels.push_back({answers[i].index, answers[i].label, answers[i].score, answers[i].probability});
        }
        return labels;
    }

    paraexport_engine *handle_ = nullptr;
    Info info_{};
};

/// Verify every file of the bundle at `path`, without a runtime. Throws Failure.
inline void verify(const std::string &path) {
    if (const paraexport_status status = paraexport_verify(path.c_str()); status != PARAEXPORT_OK) {
        throw Failure{status};
    }
}

}  // namespace paraexport

#endif  // PARAEXPORT_HPP
