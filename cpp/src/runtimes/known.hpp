/// What this library can follow of a manifest's `runtime` block. The values themselves come from the manifest.
#pragma once

#include <string>
#include <vector>

#include "bundle/manifest.hpp"

namespace paraexport::core {

struct Known {
    std::string library, file, device;
    std::vector<std::string> settings{}, device_options{}, environment{};

    /// Throw an Error for another library, file or device, or a setting that is not known here.
    void require(const Runtime &runtime, const std::string &where) const;
};

/// Whether one version comes before another, by number: 1.9 is older than 1.19.
bool is_older(const std::string &version, const std::string &other);

/// Throw an Error if the installed library is older than the bundle needs.
void require_version(const Runtime &runtime, const std::string &installed, const std::string &where);

/// Whether a product of the largest uint8 and int8 is wrong on this CPU. `multiply` computes
/// [rows, 64] times [64, 32] with a runtime.
///
/// Without VNNI, kernels add pairs of products in 16 bits, and 2 · 255 · 127 does not fit.
class SaturationProbe {
public:
    static constexpr std::size_t INNER = 64, COLUMNS = 32;

    /// 127, and −127 in every other column, [64, 32].
    static std::vector<std::int8_t> weight();

    template <typename Multiply>
    static bool saturates(Multiply multiply) {
        for (const std::size_t rows : {std::size_t{1}, std::size_t{16}}) {  // one row may have a kernel of its own
            if (!is_exact(multiply(rows))) {
                return true;
            }
        }
        return false;
    }

private:
    static bool is_exact(const std::vector<double> &products);
};

}  // namespace paraexport::core
