#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "decode.hpp"

namespace paraexport::images {
namespace {

/// What the callbacks of libpng share. libpng reports errors by a jump, so nothing with a destructor is in its frames.
struct Reading {
    const unsigned char *next;
    std::size_t left;
    char reason[200];
    png_structp png;
    png_infop info;
    png_uint_32 width, height;
    int bits, colour;
    unsigned char **rows;
};

void on_error(png_structp png, png_const_charp message) {
    auto *reading = static_cast<Reading *>(png_get_error_ptr(png));
    std::strncpy(reading->reason, message, sizeof reading->reason - 1);
    png_longjmp(png, 1);
}

void on_warning(png_structp /*png*/, png_const_charp /*message*/) {}

void read_part(png_structp png, png_bytep out, png_size_t size) {
    auto *reading = static_cast<Reading *>(png_get_io_ptr(png));
    if (size > reading->left) {
        png_error(png, "the file ends too early");
    }
    std::memcpy(out, reading->next, size);
    reading->next += size;
    reading->left -= size;
}

/// Read the header, and choose 8 bits (16 for grey without alpha), without palette and alpha.
bool read_header(Reading &reading) {
    if (setjmp(png_jmpbuf(reading.png)) != 0) {
        return false;
    }
    png_set_read_fn(reading.png, &reading, read_part);
    png_read_info(reading.png, reading.info);
    reading.width = png_get_image_width(reading.png, reading.info);
    reading.height = png_get_image_height(reading.png, reading.info);
    reading.bits = png_get_bit_depth(reading.png, reading.info);
    reading.colour = png_get_color_type(reading.png, reading.info);
    if (reading.colour == PNG_COLOR_TYPE_PALETTE) {
        png_set_palette_to_rgb(reading.png);
    }
    if (reading.colour == PNG_COLOR_TYPE_GRAY && reading.bits < 8) {
        png_set_expand_gray_1_2_4_to_8(reading.png);
    }
    if (reading.bits == 16 && reading.colour != PNG_COLOR_TYPE_GRAY) {
        png_set_strip_16(reading.png);
    }
    png_set_strip_alpha(reading.png);
    png_set_interlace_handling(reading.png);
    png_read_update_info(reading.png, reading.info);
    return true;
}

bool read_rows(Reading &reading) {
    if (setjmp(png_jmpbuf(reading.png)) != 0) {
        return false;
    }
    png_read_image(reading.png, reading.rows);
    return true;
}

/// Releases libpng's structures.
class Owner {
public:
    explicit Owner(Reading &reading) : reading_{reading} {}
    Owner(const Owner &) = delete;
    Owner &operator=(const Owner &) = delete;
    ~Owner() { png_destroy_read_struct(&reading_.png, &reading_.info, nullptr); }

private:
    Reading &reading_;
};

/// Big-endian 16 bits -> 8 bits, rounded.
std::vector<unsigned char> to_eight_bits(const std::vector<unsigned char> &bytes) {
    std::vector<unsigned char> result(bytes.size() / 2);
    for (std::size_t i = 0; i < result.size(); ++i) {
        const int value = bytes[2 * i] << 8 | bytes[2 * i + 1];
        result[i] = static_cast<unsigned char>((value + 128) / 257);
    }
    return result;
}

}  // namespace

Decoded decode_png(std::string_view file) {
    Reading reading{};
    reading.next = reinterpret_cast<const unsigned char *>(file.data());
    reading.left = file.size();
    reading.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reading, on_error, on_warning);
    const Owner owner{reading};
    reading.info = reading.png == nullptr ? nullptr : png_create_info_struct(reading.png);
    if (reading.info == nullptr) {
        throw std::bad_alloc{};
    }
    if (!read_header(reading)) {
        refuse_damaged(reading.reason);
    }
    require_size(reading.width, reading.height, file.size());
    const std::size_t row_bytes = png_get_rowbytes(reading.png, reading.info);
    const bool deep = reading.bits == 16 && reading.colour == PNG_COLOR_TYPE_GRAY;
    Decoded image{reading.height, reading.width, png_get_channels(reading.png, reading.info), {}};
    if (row_bytes != image.width * image.channels * (deep ? 2 : 1) || (image.channels != 1 && image.channels != 3)) {
        refuse_damaged("an unknown layout of pixels");
    }
    image.bytes.resize(row_bytes * image.height);
    std::vector<unsigned char *> rows(image.height);
    for (std::size_t y = 0; y < image.height; ++y) {
        rows[y] = image.bytes.data() + y * row_bytes;
    }
    reading.rows = rows.data();
    if (!read_rows(reading)) {
        refuse_damaged(reading.reason);
    }
    if (deep) {
        image.bytes = to_eight_bits(image.bytes);
    }
    return image;
}

}  // namespace paraexport::images
