/// An opened bundle: pixels -> images -> logits -> answers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"
#include "golden.hpp"
#include "paraexport.h"
#include "runtimes/session.hpp"
#include "scores.hpp"

namespace paraexport::core {

struct EngineOptions {
    int threads = 0;      ///< 0 for the runtime's default
    std::string target;   ///< empty for any
    std::string library;  ///< empty to search
    int branches = 0;     ///< use only the first ones: this many; 0 for all
};

class Engine {
public:
    /// Open a verified bundle.
    Engine(std::shared_ptr<Files> files, const EngineOptions &options);

    const Manifest &manifest() const { return bundle_.manifest; }
    const Session &session() const { return *session_; }
    const std::string &path() const { return bundle_.files->path(); }

    /// float32 [count, C, H, W] -> float32 [count, classes], in batches of at most `max_batch`.
    void run(const float *images, std::size_t count, float *logits) const;
    /// Pixels -> float32 [C, H, W].
    void prepare(const paraexport_pixels &pixels, float *image) const;
    std::vector<Answer> classify(const paraexport_pixels &pixels) const;
    std::vector<Answer> answers(const float *logits) const;
    /// Replay the golden data; max |difference| / max |logit|. Throws an Error if preprocessing gives other bits.
    double check() const;
    /// The largest difference that `check` may give.
    double limit() const;

private:
    Bundle bundle_;
    std::unique_ptr<Session> session_;
    std::string golden_;  ///< of a bundle in memory, whose buffers are gone after it was opened
};

/// The threads that the program asks for, if they are possible.
int checked_threads(int threads);

}  // namespace paraexport::core
