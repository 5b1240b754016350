// A fuzzer for compilers without libFuzzer: fuzz_NAME [-runs=N] [-seconds=S] [-seed=S] [-crash=FILE] FOLDER...
//
// It replays every file of the folders, then mutates them, and keeps inputs that reach new code. An input that crashes,
// or that takes longer than 20 seconds, is written to FILE.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

namespace {

constexpr std::size_t MAP = 1 << 16, MOST_BYTES = 1 << 16;
constexpr unsigned MOST_SECONDS = 20;
/// Words, because they are compared eight branches at a time.
std::array<std::uint64_t, MAP / 8> reached, ever;
std::uintptr_t previous = 0;

using Bytes = std::vector<std::uint8_t>;

struct Options {
    unsigned long runs = 0;
    double seconds = 0;
    unsigned seed = 1;
    std::string crash = "crash";
    std::vector<std::string> folders;
};

}  // namespace

// gcc calls it at every branch.
extern "C" __attribute__((no_sanitize_coverage, no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_pc() {
    const auto here = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
    reinterpret_cast<std::uint8_t *>(reached.data())[(here ^ previous) % MAP] = 1;
    previous = here >> 1;
}

// The sanitizers call back before they end the process.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());
extern "C" const char *__asan_default_options() {
    return "handle_sigill=1:handle_abort=1";
}

namespace {

const Bytes *current = nullptr;
const char *crash_file = "crash";

void write_current() {
    if (std::FILE *file = current == nullptr ? nullptr : std::fopen(crash_file, "wb")) {
        std::fwrite(current->data(), 1, current->size(), file);
        std::fclose(file);
        std::fprintf(stderr, "the input is in %s\n", crash_file);
    }
}

void on_timeout(int /*signal*/) {
    std::fprintf(stderr, "one input took longer than %u seconds\n", MOST_SECONDS);
    write_current();
    std::_Exit(1);
}

/// Run one input; whether it reached new code.
bool run(const Bytes &input) {
    reached.fill(0);
    previous = 0;
    current = &input;
    alarm(MOST_SECONDS);
    LLVMFuzzerTestOneInput(input.data(), input.size());
    alarm(0);
    std::uint64_t fresh = 0;
    for (std::size_t i = 0; i < reached.size(); ++i) {
        fresh |= reached[i] & ~ever[i];
        ever[i] |= reached[i];
    }
    return fresh != 0;
}

class Mutator {
public:
    explicit Mutator(unsigned seed) : random_{seed} {}

    std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }

    Bytes mutated(const std::vector<Bytes> &corpus) {
        Bytes input = corpus[below(corpus.size())];
        const std::size_t steps = 1 + below(5);
        for (std::size_t step = 0; step < steps; ++step) {
            change(input, corpus[below(corpus.size())]);
        }
        if (input.size() > MOST_BYTES) {
            input.resize(MOST_BYTES);
        }
        return input;
    }

private:
    void change(Bytes &input, const Bytes &other) {
        static const std::vector<std::string> words{"0",
                                                    "-1",
                                                    "1e999",
                                                    "9223372036854775808",
                                                    "null",
                                                    "true",
                                                    "[]",
                                                    "{}",
                                                    "\"\"",
                                                    "\\ud8",
                                                    "../x",
                                                    "int8",
                                                    "\"runtime\":",
                                                    ",",
                                                    ":",
                                                    "\xff",
                                                    "\x00z",
                                                    "4294967295",
                                                    "65536",
                                                    "NaN",
                                                    "1.5",
                                                    "[[[[",
                                                    "]",
                                                    "}",
                                                    "\"",
                                                    "\\",
                                                    "\xe2\x80\xa8"};
        const std::size_t at = below(input.size() + 1);
        const auto place = input.begin() + static_cast<std::ptrdiff_t>(at);
        switch (below(9)) {
            case 0:
                if (at < input.size()) {
                    input[at] = static_cast<std::uint8_t>(input[at] ^ 1u << below(8));
                }
                break;
            case 1:
                if (at < input.size()) {
                    input[at] = static_cast<std::uint8_t>(random_());
                }
                break;
            case 2: input.insert(place, static_cast<std::uint8_t>(random_())); break;
            case 3:
                input.erase(place, place + static_cast<std::ptrdiff_t>(
                                               below(std::min<std::size_t>(16, input.size() - at) + 1)));
                break;
            case 4: {
                const std::string &word = words[below(words.size())];
                input.insert(place, word.begin(), word.end());
                break;
            }
            case 5: {  // overwrite with a word
                const std::string &word = words[below(words.size())];
                for (std::size_t i = 0; i < word.size() && at + i < input.size(); ++i) {
                    input[at + i] = static_cast<std::uint8_t>(word[i]);
                }
                break;
            }
            case 6: {  // a part of another input
                const std::size_t from = below(other.size() + 1),
                                  size = below(std::min<std::size_t>(200, other.size() - from) + 1);
                const auto start = other.begin() + static_cast<std::ptrdiff_t>(from);
                const Bytes part{start, start + static_cast<std::ptrdiff_t>(size)};
                input.insert(place, part.begin(), part.end());
                break;
            }
            case 7: {  // a part of itself, moved
                const std::size_t from = below(input.size() + 1),
                                  size = below(std::min<std::size_t>(64, input.size() - from) + 1);
                const auto start = input.begin() + static_cast<std::ptrdiff_t>(from);
                const Bytes part{start, start + static_cast<std::ptrdiff_t>(size)};
                input.insert(place, part.begin(), part.end());
                break;
            }
            default:
                if (below(8) == 0) {
                    input.resize(at);
                }
        }
    }

    std::mt19937_64 random_;
};

Options options_of(int argc, char **argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word.rfind("-runs=", 0) == 0) {
            options.runs = std::strtoul(argv[i] + 6, nullptr, 10);
        } else if (word.rfind("-seconds=", 0) == 0) {
            options.seconds = std::strtod(argv[i] + 9, nullptr);
        } else if (word.rfind("-seed=", 0) == 0) {
            options.seed = static_cast<unsigned>(std::strtoul(argv[i] + 6, nullptr, 10));
        } else if (word.rfind("-crash=", 0) == 0) {
            options.crash = word.substr(7);
        } else {
            options.folders.push_back(word);
        }
    }
    return options;
}

}  // namespace

int main(int argc, char **argv) {
    const Options options = options_of(argc, argv);
    std::vector<Bytes> corpus{{}};
    for (const std::string &folder : options.folders) {
        for (const auto &entry : std::filesystem::directory_iterator(folder)) {
            std::ifstream stream{entry.path(), std::ios::binary};
            corpus.emplace_back(std::istreambuf_iterator<char>{stream}, std::istreambuf_iterator<char>{});
        }
    }
    const std::size_t files = corpus.size() - 1;
    crash_file = options.crash.c_str();
    std::signal(SIGALRM, on_timeout);
    if (__sanitizer_set_death_callback != nullptr) {
        __sanitizer_set_death_callback(write_current);
    }
    for (const Bytes &input : corpus) {
        run(input);
    }
    Mutator mutator{options.seed};
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    unsigned long runs = 0;
    while (runs < options.runs || elapsed() < options.seconds) {
        Bytes input = mutator.mutated(corpus);
        if (run(input)) {
            corpus.push_back(std::move(input));
        }
        ++runs;
    }
    std::size_t edges = 0;
    for (std::uint64_t eight : ever) {
        for (; eight != 0; eight >>= 8) {
            edges += eight & 1;
        }
    }
    std::printf("%zu files replayed, %lu runs in %.0f s, %zu inputs kept, %zu branches reached, no crash\n", files,
                runs, elapsed(), corpus.size() - 1, edges);
    return 0;
}
