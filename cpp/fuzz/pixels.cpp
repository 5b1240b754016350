// Any geometry of an image and of a model. The first bytes choose it, the rest are pixels.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "error.hpp"
#include "image/prepare.hpp"

namespace {

/// Takes numbers from the front of the input.
struct Input {
    const std::uint8_t *data;
    std::size_t size;

    std::size_t number(std::size_t limit) {
        std::size_t value = 0;
        for (int i = 0; i < 2 && size > 0; ++i, ++data, --size) {
            value = value << 8 | *data;
        }
        return value % limit;
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Input input{data, size};
    constexpr const char *filters[] = {"nearest", "bilinear", "bicubic", "lanczos"};
    constexpr std::size_t channels[] = {1, 3, 2, 4};
    paraexport::core::Preprocessing to{channels[input.number(4)],
                                       1 + input.number(40),
                                       1 + input.number(40),
                                       input.number(2) == 0,
                                       1 + input.number(50),
                                       1 + input.number(50),
                                       filters[input.number(4)],
                                       {0.5F},
                                       {0.25F}};
    paraexport_pixels pixels{};
    pixels.size = sizeof pixels;
    pixels.height = input.number(300);
    pixels.width = input.number(300);
    pixels.channels = input.number(6);
    const std::size_t spare = input.number(9);
    pixels.stride = spare == 8 ? 0 : pixels.width * pixels.channels + spare - (spare == 7 ? 8 : 0);
    pixels.order = static_cast<int>(input.number(3));
    const std::size_t stride = pixels.stride == 0 ? pixels.width * pixels.channels : pixels.stride;
    if (spare == 7 && pixels.stride > 1u << 20) {
        return 0;
    }
    // Exactly as many bytes as the geometry needs, so that one more is found.
    const std::size_t last_row = pixels.width * pixels.channels;
    std::vector<unsigned char> bytes(pixels.height == 0 ? 0 : (pixels.height - 1) * stride + last_row, 128);
    if (!bytes.empty() && input.size > 0) {
        for (std::size_t i = 0; i < bytes.size(); ++i) {
            bytes[i] = input.data[i % input.size];
        }
    }
    pixels.data = bytes.empty() ? nullptr : bytes.data();
    std::vector<float> image(to.channels * to.height * to.width, NAN);
    try {
        paraexport::core::prepare(pixels, to, image.data());
        for (const float value : image) {
            if (!(value >= -2 && value <= 2)) {
                __builtin_trap();
            }
        }
    } catch (const paraexport::core::Error &) {
    }
    return 0;
}
