/// The C interface: checks arguments, and turns exceptions into a status and the last error.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <new>

#include "bundle/bundle.hpp"
#include "engine.hpp"
#include "error.hpp"
#include "handles.hpp"
#include "paraexport.h"
#include "structs.hpp"
#include "utf8.hpp"

namespace {

using namespace paraexport::core;

/// It has a fixed size, so that reporting an error never needs memory.
thread_local char last_error[MOST_LINE_BYTES + 1] = "";

paraexport_status failed(paraexport_status status, std::string_view message) noexcept {
    const std::size_t length = whole_characters(message, MOST_LINE_BYTES);
    std::memcpy(last_error, message.data(), length);
    last_error[length] = '\0';
    return status;
}

/// Run `call` and return its status. Nothing that it throws leaves this function.
template <typename Call>
paraexport_status guarded(Call call) noexcept {
    last_error[0] = '\0';
    try {
        return call();
    } catch (const Error &error) {
        return failed(error.status(), error.what());
    } catch (const std::filesystem::filesystem_error &error) {
        const bool full = error.code() == std::errc::too_many_files_open ||
                          error.code() == std::errc::too_many_files_open_in_system;
        return failed(full ? PARAEXPORT_MISSING : PARAEXPORT_BAD_INPUT, error.what());
    } catch (const std::bad_alloc &) {
        return failed(PARAEXPORT_MISSING, "there is not enough memory; free memory, or build with a lower --max-batch");
    } catch (const std::exception &error) {
        return failed(PARAEXPORT_INTERNAL, error.what());
    } catch (...) {
        return failed(PARAEXPORT_INTERNAL, "an unknown exception");
    }
}

void require(const void *pointer, const char *name) {
    if (pointer == nullptr) {
        throw bad_input({std::string{name} + " is NULL", {}, {}, {}, {}});
    }
}

EngineOptions options_in(const paraexport_options *given) {
    EngineOptions options;
    if (given != nullptr) {
        const paraexport_options read = read_struct(given, "paraexport_options");
        options.threads = checked_threads(read.threads);
        options.target = read.target == nullptr ? "" : read.target;
        options.library = read.runtime == nullptr ? "" : read.runtime;
        options.branches = read.branches;
    }
    return options;
}

paraexport_engine *opened(std::shared_ptr<Files> files, const EngineOptions &options) {
    return add_handle(std::make_shared<const Engine>(std::move(files), options));
}

/// Write the best `most` answers into the caller's array, whose elements may be shorter or longer than ours.
void write_answers(const std::vector<Answer> &all, const Scores &scores, paraexport_answer *answers, std::size_t most,
                   std::size_t *found) {
    const std::size_t count = std::min(most, all.size()), size = answers->size;
    auto *place = reinterpret_cast<char *>(answers);
    for (std::size_t i = 0; i < count; ++i, place += size) {
        const Answer &answer = all[i];
        write_struct(paraexport_answer{size, answer.index, answer.label->c_str(), answer.score,
                                       scores.probabilities() ? answer.score : -1.0},
                     place, size);
    }
    *found = count;
}

void clear(std::size_t *found) {
    if (found != nullptr) {
        *found = 0;
    }
}

void require_answers(const paraexport_answer *answers, std::size_t most, const std::size_t *found) {
    require(answers, "answers");
    require(found, "found");
    if (most == 0) {
        throw bad_input({"most is 0", {}, "at least 1", {}, {}});
    }
    require_struct_size(answers->size, "paraexport_answer");
}

}  // namespace

extern "C" {

const char *paraexport_version(void) {
    return PARAEXPORT_VERSION;
}

const char *paraexport_last_error(void) {
    return last_error;
}

paraexport_status paraexport_open(const char *path, const paraexport_options *options, paraexport_engine **engine) {
    return guarded([&] {
        require(engine, "engine");
        *engine = nullptr;
        require(path, "path");
        const EngineOptions read = options_in(options);
        reading(path, [&](std::shared_ptr<Files> files) { *engine = opened(std::move(files), read); });
        return PARAEXPORT_OK;
    });
}

paraexport_status paraexport_open_memory(const paraexport_file *files, size_t count, const paraexport_options *options,
                                         paraexport_engine **engine) {
    return guarded([&] {
        require(engine, "engine");
        *engine = nullptr;
        require(files, "files");
        if (files->size < sizeof(paraexport_file)) {
            throw bad_input({"the field size of paraexport_file is not set",
                             {},
                             "sizeof(paraexport_file)",
                             std::to_string(files->size),
                             {}});
        }
        require_struct_size(files->size, "paraexport_file");
        *engine = opened(files_in_memory(files, count), options_in(options));
        return PARAEXPORT_OK;
    });
}

paraexport_status paraexport_open_reader(const paraexport_reader *reader, const paraexport_options *options,
                                         paraexport_engine **engine) {
    return guarded([&] {
        require(engine, "engine");
        *engine = nullptr;
        const paraexport_reader read = read_struct(reader, "paraexport_reader");
        if (read.find == nullptr || read.read == nullptr) {
            throw bad_input({"the reader lacks a function", {}, "find and read", {}, {}});
        }
        *engine = opened(files_of_reader(read), options_in(options));
        return PARAEXPORT_OK;
    });
}

paraexport_status paraexport_close(paraexport_engine *engine) {
    return guarded([&] {
        if (engine != nullptr) {
            remove_handle(engine);
        }
        return PARAEXPORT_OK;
    });
}

paraexport_status paraexport_get_info(const paraexport_engine *engine, paraexport_info *info) {
    return guarded([&] {
        const auto open = engine_of(engine);
        require(info, "info");
        require_struct_size(info->size, "paraexport_info");
        const Manifest &facts = open->manifest();
        const Preprocessing &image = facts.preprocessing;
        write_struct(paraexport_info{0, image.channels, image.height, image.width, facts.labels.size(), facts.max_batch,
                                     facts.target.c_str(), facts.precision.c_str(), facts.layout.c_str(),
                                     open->session().runtime_version().c_str(), open->session().runtime_path().c_str(),
                                     static_cast<std::size_t>(facts.branches)},
                     info, info->size);
        return PARAEXPORT_OK;
    });
}

const char *paraexport_label(const paraexport_engine *engine, size_t index) {
    const char *label = nullptr;
    guarded([&] {
        const auto open = engine_of(engine);
        const std::vector<std::string> &labels = open->manifest().labels;
        if (index >= labels.size()) {
            throw bad_input({"there is no such output",
                             "index",
                             "0 to " + std::to_string(labels.size() - 1),
                             std::to_string(index),
                             {}});
        }
        label = labels[index].c_str();
        return PARAEXPORT_OK;
    });
    return label;
}

paraexport_status paraexport_run(const paraexport_engine *engine, const float *images, size_t count, float *logits) {
    return guarded([&] {
        const auto open = engine_of(engine);
        if (count == 0) {
            return PARAEXPORT_OK;
        }
        require(images, "images");
        require(logits, "logits");
        const std::size_t numbers = std::max(open->manifest().image_numbers(), open->manifest().labels.size());
        if (count > SIZE_MAX / sizeof(float) / numbers) {
            throw bad_input({"more images than memory can hold", "count", {}, std::to_string(count), {}});
        }
        open->run(images, count, logits);
        return PARAEXPORT_OK;
    });
}

paraexport_status paraexport_prepare(const paraexport_engine *engine, const paraexport_pixels *pixels, float *image) {
    return guarded([&] {
        const auto open = engine_of(engine);
        const paraexport_pixels read = read_struct(pixels, "paraexport_pixels");
        require(image, "image");
        open->prepare(read, image);
        return PARAEXPORT_OK;
    });
}

paraexport_status paraexport_classify(const paraexport_engine *engine, const paraexport_pixels *pixels,
                                      paraexport_answer *answers, size_t most, size_t *found) {
    return guarded([&] {
        clear(found);
        const auto open = engine_of(engine);
        const paraexport_pixels read = read_struct(pixels, "paraexport_pixels");
        require_answers(answers, most, found);
        write_answers(open->classify(read), open->manifest().scores, answers, most, found);
        return PARAEXPORT_OK;
    });
}

paraexport_status paraexport_answers(const paraexport_engine *engine, const float *logits, paraexport_answer *answers,
                                     size_t most, size_t *found) {
    return guarded([&] {
        clear(found);
        const auto open = engine_of(engine);
        require(logits, "logits");
        require_answers(answers, most, found);
        write_answers(open->answers(logits), open->manifest().scores, answers, most, found);
        return PARAEXPORT_OK;
    });
}

paraexport_status paraexport_check(const paraexport_engine *engine, double *difference) {
    return guarded([&] {
        const auto open = engine_of(engine);
        const double limit = open->limit(), got = open->check();
        if (difference != nullptr) {
            *difference = got;
        }
        if (!(got <= limit)) {
            throw Error{PARAEXPORT_CHECK_FAILED,
                        {"check failed: parity", open->path(), "at most " + brief(limit, 3), brief(got, 3),
                         "run `paraexport validate` on the bundle"}};
        }
        return PARAEXPORT_OK;
    });
}

paraexport_status paraexport_verify(const char *path) {
    return guarded([&] {
        require(path, "path");
        reading(path, [](const std::shared_ptr<Files> &files) { verify_only(*files); });
        return PARAEXPORT_OK;
    });
}

}  // extern "C"
