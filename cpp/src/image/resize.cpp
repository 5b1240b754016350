#include "image/resize.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace paraexport::core {
namespace {

constexpr double PI = 3.14159265358979323846;
/// Weights are whole multiples of 2^-22. Then the sum of 255 times all weights fits into 32 bits with a sign.
constexpr int WEIGHT_BITS = 22;

struct Filter {
    double (*weight)(double distance);
    double support;  ///< the weight is 0 beyond this distance
};

double bilinear(double x) {
    x = std::fabs(x);
    return x < 1 ? 1 - x : 0;
}

/// c[0] + c[1] x + c[2] x² + c[3] x³, by Horner's rule.
double cubic(const double (&c)[4], double x) {
    return ((c[3] * x + c[2]) * x + c[1]) * x + c[0];
}

/// The cubic convolution of R. Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, equation 4
/// with a = -1/2: (a + 2)|x|³ - (a + 3)|x|² + 1 up to 1, and a|x|³ - 5a|x|² + 8a|x| - 4a up to 2.
double bicubic(double x) {
    constexpr double near[4] = {1, 0, -2.5, 1.5}, far[4] = {2, -4, 2.5, -0.5};
    const double distance = std::fabs(x);
    if (distance >= 2) {
        return 0;
    }
    return cubic(distance < 1 ? near : far, distance);
}

/// sin(πx) / πx.
double sinc(double x) {
    const double angle = PI * x;
    return angle == 0 ? 1 : std::sin(angle) / angle;
}

/// The window of C. Lanczos with three lobes (C. Duchon, "Lanczos Filtering in One and Two Dimensions", 1979).
double lanczos(double x) {
    constexpr double lobes = 3;
    return std::fabs(x) < lobes ? sinc(x) * sinc(x / lobes) : 0;
}

Filter filter_of(const std::string &name) {
    if (name == "bilinear") {
        return {bilinear, 1};
    }
    return name == "bicubic" ? Filter{bicubic, 2} : Filter{lanczos, 3};
}

/// The weights of one axis: for each new position, those of a window of old ones.
struct Weights {
    struct Window {
        std::size_t first, count;
    };
    std::vector<Window> windows;
    std::vector<std::int32_t> values;  ///< `widest` for each window
    std::size_t widest = 0;

    const std::int32_t *of(std::size_t position) const { return values.data() + position * widest; }
};

/// The positions and the rounding are those of Pillow, because every bit counts: a window of ±support around the
/// centre, clipped to the image; weights in double that sum to 1; halves rounded away from zero.
Weights weights_of(std::size_t from, std::size_t to, const Filter &filter) {
    const double scale = static_cast<double>(from) / static_cast<double>(to);
    const double stretch = std::max(scale, 1.0), support = filter.support * stretch, shrink = 1 / stretch;
    Weights weights{{}, {}, static_cast<std::size_t>(std::ceil(support)) * 2 + 1};
    weights.windows.reserve(to);
    weights.values.assign(to * weights.widest, 0);
    std::vector<double> exact(weights.widest);
    for (std::size_t position = 0; position < to; ++position) {
        const double centre = (static_cast<double>(position) + 0.5) * scale;
        const double low = centre - support + 0.5, high = centre + support + 0.5;
        const std::size_t first = low <= 0 ? 0 : static_cast<std::size_t>(low);
        const std::size_t end = std::min(from, static_cast<std::size_t>(high));
        const std::size_t count = end - first;
        double sum = 0;
        for (std::size_t i = 0; i < count; ++i) {
            exact[i] = filter.weight((static_cast<double>(i) + static_cast<double>(first) - centre + 0.5) * shrink);
            sum += exact[i];
        }
        std::int32_t *rounded = weights.values.data() + position * weights.widest;
        for (std::size_t i = 0; i < count; ++i) {
            const double value = sum == 0 ? exact[i] : exact[i] / sum;
            rounded[i] = static_cast<std::int32_t>((value < 0 ? -0.5 : 0.5) + value * (1 << WEIGHT_BITS));
        }
        weights.windows.push_back({first, count});
    }
    return weights;
}

unsigned char to_byte(std::int32_t sum) {
    return static_cast<unsigned char>(std::clamp(sum >> WEIGHT_BITS, 0, 255));
}

constexpr std::int32_t HALF = 1 << (WEIGHT_BITS - 1);

template <std::size_t CHANNELS>
void resize_row(const unsigned char *row, unsigned char *out, const Weights &weights) {
    for (std::size_t x = 0; x < weights.windows.size(); ++x, out += CHANNELS) {
        const auto [first, count] = weights.windows[x];
        const std::int32_t *weight = weights.of(x);
        const unsigned char *pixel = row + first * CHANNELS;
        std::int32_t sums[CHANNELS];
        std::fill_n(sums, CHANNELS, HALF);
        for (std::size_t i = 0; i < count; ++i, pixel += CHANNELS) {
            for (std::size_t c = 0; c < CHANNELS; ++c) {
                sums[c] += pixel[c] * weight[i];
            }
        }
        for (std::size_t c = 0; c < CHANNELS; ++c) {
            out[c] = to_byte(sums[c]);
        }
    }
}

void resize_row(const unsigned char *row, unsigned char *out, const Weights &weights, std::size_t channels) {
    if (channels == 3) {
        return resize_row<3>(row, out, weights);
    }
    if (channels == 1) {
        return resize_row<1>(row, out, weights);
    }
    for (std::size_t x = 0; x < weights.windows.size(); ++x) {
        const auto [first, count] = weights.windows[x];
        const std::int32_t *weight = weights.of(x);
        for (std::size_t c = 0; c < channels; ++c) {
            std::int32_t sum = HALF;
            for (std::size_t i = 0; i < count; ++i) {
                sum += row[(first + i) * channels + c] * weight[i];
            }
            out[x * channels + c] = to_byte(sum);
        }
    }
}

/// Both passes with the filter. The first one only makes the rows that the second one reads.
Picture filtered(const PictureView &picture, std::size_t height, std::size_t width, const Filter &filter) {
    const std::size_t line = width * picture.channels;
    const bool narrows = width != picture.width, lowers = height != picture.height;
    Weights rows;
    if (lowers) {
        rows = weights_of(picture.height, height, filter);
    }
    const std::size_t first = lowers ? rows.windows.front().first : 0;
    const std::size_t end = lowers ? rows.windows.back().first + rows.windows.back().count : picture.height;
    Picture middle{end - first, width, picture.channels, std::vector<unsigned char>((end - first) * line)};
    const Weights columns = narrows ? weights_of(picture.width, width, filter) : Weights{};
    for (std::size_t y = first; y < end; ++y) {
        const unsigned char *row = picture.bytes + y * picture.stride;
        unsigned char *out = middle.bytes.data() + (y - first) * line;
        if (narrows) {
            resize_row(row, out, columns, picture.channels);
        } else {
            std::memcpy(out, row, line);
        }
    }
    if (!lowers) {
        return middle;
    }
    Picture result{height, width, picture.channels, std::vector<unsigned char>(height * line)};
    std::vector<std::int32_t> sums(line);
    for (std::size_t y = 0; y < height; ++y) {
        std::fill(sums.begin(), sums.end(), HALF);
        const auto [start, count] = rows.windows[y];
        for (std::size_t i = 0; i < count; ++i) {
            const unsigned char *row = middle.bytes.data() + (start - first + i) * line;
            const std::int32_t weight = rows.of(y)[i];
            for (std::size_t x = 0; x < line; ++x) {
                sums[x] += row[x] * weight;
            }
        }
        std::transform(sums.begin(), sums.end(), result.bytes.data() + y * line, to_byte);
    }
    return result;
}

/// The old position for each new one. Pillow adds the scale again and again, which rounds differently than a product.
std::vector<std::size_t> nearest_positions(std::size_t from, std::size_t to) {
    const double scale = static_cast<double>(from) / static_cast<double>(to);
    std::vector<std::size_t> positions(to);
    double at = scale * 0.5;
    for (std::size_t &position : positions) {
        position = std::min(static_cast<std::size_t>(at), from - 1);
        at += scale;
    }
    return positions;
}

Picture nearest(const PictureView &picture, std::size_t height, std::size_t width) {
    const std::size_t channels = picture.channels;
    const std::vector<std::size_t> rows = nearest_positions(picture.height, height);
    const std::vector<std::size_t> columns = nearest_positions(picture.width, width);
    Picture result{height, width, channels, std::vector<unsigned char>(height * width * channels)};
    unsigned char *out = result.bytes.data();
    for (const std::size_t y : rows) {
        for (const std::size_t x : columns) {
            std::memcpy(out, picture.bytes + y * picture.stride + x * channels, channels);
            out += channels;
        }
    }
    return result;
}

}  // namespace

Picture resized(const PictureView &picture, std::size_t height, std::size_t width, const std::string &filter) {
    return filter == "nearest" ? nearest(picture, height, width) : filtered(picture, height, width, filter_of(filter));
}

}  // namespace paraexport::core
