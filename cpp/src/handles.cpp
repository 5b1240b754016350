#include "handles.hpp"

#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "error.hpp"

namespace paraexport::core {
namespace {

struct Handles {
    std::shared_mutex mutex;
    std::unordered_map<std::uintptr_t, std::shared_ptr<const Engine>> engines;
    std::uintptr_t last = 0;
};

/// It is never destroyed: threads may still run engines while the process ends.
Handles &handles() {
    static auto &all = *new Handles;
    return all;
}

/// Handles are odd numbers, so that no address is taken for one.
std::uintptr_t number_of(const paraexport_engine *handle) {
    return reinterpret_cast<std::uintptr_t>(handle);
}

Error no_engine(const paraexport_engine *handle) {
    return bad_input({handle == nullptr ? "engine is NULL" : "the engine is closed, or was never opened",
                      {},
                      {},
                      {},
                      "open a bundle with paraexport_open"});
}

}  // namespace

paraexport_engine *add_handle(std::shared_ptr<const Engine> engine) {
    const std::unique_lock lock{handles().mutex};
    const std::uintptr_t number = handles().last * 2 + 1;
    handles().engines.emplace(number, std::move(engine));
    ++handles().last;
    return reinterpret_cast<paraexport_engine *>(number);
}

std::shared_ptr<const Engine> engine_of(const paraexport_engine *handle) {
    const std::shared_lock lock{handles().mutex};
    const auto place = handles().engines.find(number_of(handle));
    if (place == handles().engines.end()) {
        throw no_engine(handle);
    }
    return place->second;
}

void remove_handle(const paraexport_engine *handle) {
    std::shared_ptr<const Engine> engine;  // declared first, so that it ends after the lock: closing takes time
    const std::unique_lock lock{handles().mutex};
    const auto place = handles().engines.find(number_of(handle));
    if (place == handles().engines.end()) {
        throw no_engine(handle);
    }
    engine = std::move(place->second);
    handles().engines.erase(place);
}

}  // namespace paraexport::core
