#include "image/prepare.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

#include "error.hpp"
#include "image/resize.hpp"

namespace paraexport::core {
namespace {

/// The largest image that Pillow opens and makes without a warning, and so Python's limit for a resize.
constexpr std::size_t MOST_RESIZED_PIXELS = 89478485;
constexpr std::size_t MOST_PIXELS = std::size_t{1} << 31;

std::string sides(std::size_t width, std::size_t height) {
    return std::to_string(width) + "x" + std::to_string(height);
}

void require_pixels(const paraexport_pixels &pixels, std::size_t channels) {
    if (pixels.data == nullptr || pixels.height == 0 || pixels.width == 0) {
        throw bad_input({"the pixels do not fit the model",
                         "pixels",
                         "an image with at least one pixel",
                         pixels.data == nullptr ? "data is NULL" : sides(pixels.width, pixels.height),
                         {}});
    }
    if (pixels.width > MOST_PIXELS || pixels.height > MOST_PIXELS / pixels.width) {
        throw bad_input({"the image is too large", "pixels", "at most 2^31 pixels", sides(pixels.width, pixels.height),
                         "shrink it"});
    }
    const bool pictures = channels == 1 || channels == 3;
    const bool colour = pixels.channels == 1 || pixels.channels == 3 || pixels.channels == 4;
    if (pixels.channels != channels && !(pictures && colour)) {
        const std::string expected = pictures ? "1, 3 or 4 channels" : std::to_string(channels) + " channels";
        throw bad_input({"the pixels do not fit the model", "pixels", expected, std::to_string(pixels.channels),
                         "convert it, or correct the channels"});
    }
    if (pixels.order != PARAEXPORT_RGB && pixels.order != PARAEXPORT_BGR) {
        throw bad_input({"unknown order of channels",
                         "pixels",
                         "PARAEXPORT_RGB or PARAEXPORT_BGR",
                         std::to_string(pixels.order),
                         {}});
    }
    constexpr std::size_t most = PTRDIFF_MAX;
    const std::size_t row = pixels.width * pixels.channels;
    if (pixels.height > 1 && pixels.stride > (most - row) / (pixels.height - 1)) {
        throw bad_input({"the rows are too far apart",
                         "pixels",
                         "a stride of at most " + std::to_string((most - row) / (pixels.height - 1)) + " bytes",
                         std::to_string(pixels.stride),
                         {}});
    }
    if (pixels.stride != 0 && pixels.stride < row) {
        throw bad_input({"the rows overlap",
                         "pixels",
                         "a stride of at least " + std::to_string(row) + " bytes",
                         std::to_string(pixels.stride),
                         {}});
    }
}

/// Luma of ITU-R 601, in whole numbers as in Pillow.
unsigned char luma(std::uint32_t red, std::uint32_t green, std::uint32_t blue) {
    return static_cast<unsigned char>((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16);
}

/// The pixels with the channels of the model, in the order RGB. Alpha is dropped.
Picture converted(const PictureView &from, bool reversed, std::size_t channels) {
    Picture picture{from.height, from.width, channels, std::vector<unsigned char>(from.height * from.width * channels)};
    unsigned char *out = picture.bytes.data();
    const std::size_t red = reversed ? 2 : 0, blue = 2 - red;
    for (std::size_t y = 0; y < from.height; ++y) {
        const unsigned char *pixel = from.bytes + y * from.stride;
        for (std::size_t x = 0; x < from.width; ++x, pixel += from.channels, out += channels) {
            if (from.channels == 1) {
                std::fill_n(out, channels, pixel[0]);
            } else if (channels == 1) {
                out[0] = luma(pixel[red], pixel[1], pixel[blue]);
            } else {
                out[0] = pixel[red], out[1] = pixel[1], out[2] = pixel[blue];
            }
        }
    }
    return picture;
}

struct Size {
    std::size_t height, width;
};

Size size_after_resize(const PictureView &picture, const Preprocessing &preprocessing) {
    if (!preprocessing.resize_shorter) {
        return {preprocessing.resize_height, preprocessing.resize_width};
    }
    const std::size_t shorter = preprocessing.resize_height;
    const auto [low, high] = std::minmax(picture.height, picture.width);
    const std::size_t longer = shorter * high / low;  // at most 2^16 times 2^31
    return picture.width <= picture.height ? Size{longer, shorter} : Size{shorter, longer};
}

void require_size(const PictureView &picture, Size size) {
    const std::size_t tallest = std::max(picture.height, size.height);
    if (tallest > MOST_RESIZED_PIXELS / size.width) {
        throw bad_input({sides(picture.width, picture.height) + " pixels would be resized to " +
                             sides(size.width, tallest) + " and " + sides(size.width, size.height),
                         "pixels",
                         "at most " + std::to_string(MOST_RESIZED_PIXELS) + " pixels",
                         {},
                         "crop it to a less extreme shape"});
    }
}

/// Half of the spare pixels; a half goes to the even number.
std::size_t margin(std::size_t have, std::size_t want) {
    const std::size_t spare = have - want, half = spare / 2;
    return spare % 2 == 1 && half % 2 == 1 ? half + 1 : half;
}

/// (pixel/255 − mean)/std for all 256 values, each operation rounded to float32.
std::array<float, 256> scaled(float mean, float std) {
    std::array<float, 256> values{};
    for (std::size_t i = 0; i < values.size(); ++i) {
        // volatile, so that no compiler merges or widens the three operations
        volatile float value = static_cast<float>(i) / 255.0F;
        value = value - mean;
        value = value / std;
        values[i] = value;
    }
    return values;
}

void crop_and_scale(const PictureView &picture, const Preprocessing &to, float *image) {
    const std::size_t top = margin(picture.height, to.height), left = margin(picture.width, to.width);
    for (std::size_t c = 0; c < to.channels; ++c) {
        const std::array<float, 256> value =
            scaled(to.mean[to.mean.size() == 1 ? 0 : c], to.std[to.std.size() == 1 ? 0 : c]);
        for (std::size_t y = 0; y < to.height; ++y) {
            const unsigned char *pixel = picture.bytes + (top + y) * picture.stride + left * to.channels + c;
            for (std::size_t x = 0; x < to.width; ++x, pixel += to.channels) {
                *image++ = value[*pixel];
            }
        }
    }
}

}  // namespace

void prepare(const paraexport_pixels &pixels, const Preprocessing &preprocessing, float *image) {
    const std::size_t channels = preprocessing.channels;
    require_pixels(pixels, channels);
    const std::size_t stride = pixels.stride == 0 ? pixels.width * pixels.channels : pixels.stride;
    PictureView view{pixels.height, pixels.width, pixels.channels, pixels.data, stride};
    const Size size = size_after_resize(view, preprocessing);
    const bool resizes = size.height != view.height || size.width != view.width;
    if (resizes) {
        require_size(view, size);
    }
    if (size.height < preprocessing.height || size.width < preprocessing.width) {
        throw bad_input({"the image is smaller than the crop after the resize", "pixels",
                         "at least " + std::to_string(preprocessing.height) + " high and " +
                             std::to_string(preprocessing.width) + " wide",
                         std::to_string(size.height) + " high and " + std::to_string(size.width) + " wide",
                         "set resize to (" + std::to_string(preprocessing.height) + ", " +
                             std::to_string(preprocessing.width) + ") or more"});
    }
    Picture picture{};
    const auto use = [&](Picture made) {
        picture = std::move(made);
        view = {picture.height, picture.width, picture.channels, picture.bytes.data(),
                picture.width * picture.channels};
    };
    const bool reversed = pixels.order == PARAEXPORT_BGR;
    if (view.channels != channels || (reversed && channels == 3)) {
        use(converted(view, reversed, channels));
    }
    if (resizes) {
        use(resized(view, size.height, size.width, preprocessing.interpolation));
    }
    crop_and_scale(view, preprocessing, image);
}

}  // namespace paraexport::core
