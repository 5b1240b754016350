#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <new>

#include "decode.hpp"

// It must come after <cstdio>.
#include <jpeglib.h>
// The numbers of libjpeg's messages.
#include <jerror.h>

namespace paraexport::images {
namespace {

/// What the callbacks of libjpeg share. It reports errors by a jump, so nothing with a destructor is in its frames.
struct Reading {
    jpeg_decompress_struct jpeg;
    jpeg_error_mgr errors;
    std::jmp_buf jump;
    char reason[JMSG_LENGTH_MAX];
    const unsigned char *data;
    unsigned long size;
    unsigned char *rows;
};

Reading &reading_of(j_common_ptr jpeg) {
    return *static_cast<Reading *>(jpeg->client_data);
}

void on_error(j_common_ptr jpeg) {
    Reading &reading = reading_of(jpeg);
    jpeg->err->format_message(jpeg, reading.reason);
    std::longjmp(reading.jump, 1);
}

/// Damage in the data is ignored, as Pillow does; but not the end of the file.
void on_message(j_common_ptr jpeg, int level) {
    if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF) {
        on_error(jpeg);
    }
}

void on_output(j_common_ptr /*jpeg*/) {}

bool read_header(Reading &reading) {
    if (setjmp(reading.jump) != 0) {
        return false;
    }
    jpeg_create_decompress(&reading.jpeg);
    reading.jpeg.client_data = &reading;
    jpeg_mem_src(&reading.jpeg, reading.data, reading.size);
    jpeg_read_header(&reading.jpeg, TRUE);
    return true;
}

bool read_rows(Reading &reading) {
    if (setjmp(reading.jump) != 0) {
        return false;
    }
    jpeg_start_decompress(&reading.jpeg);
    const std::size_t row_bytes =
        std::size_t{reading.jpeg.output_width} * static_cast<std::size_t>(reading.jpeg.output_components);
    while (reading.jpeg.output_scanline < reading.jpeg.output_height) {
        unsigned char *row = reading.rows + reading.jpeg.output_scanline * row_bytes;
        jpeg_read_scanlines(&reading.jpeg, &row, 1);
    }
    jpeg_finish_decompress(&reading.jpeg);
    return true;
}

class Owner {
public:
    explicit Owner(Reading &reading) : reading_{reading} {}
    Owner(const Owner &) = delete;
    Owner &operator=(const Owner &) = delete;
    ~Owner() { jpeg_destroy_decompress(&reading_.jpeg); }

private:
    Reading &reading_;
};

}  // namespace

Decoded decode_jpeg(std::string_view file) {
    Reading reading{};
    reading.data = reinterpret_cast<const unsigned char *>(file.data());
    reading.size = static_cast<unsigned long>(file.size());
    reading.jpeg.err = jpeg_std_error(&reading.errors);
    reading.jpeg.client_data = &reading;
    reading.errors.error_exit = on_error;
    reading.errors.emit_message = on_message;
    reading.errors.output_message = on_output;
    const Owner owner{reading};
    if (!read_header(reading)) {
        refuse_damaged(reading.reason);
    }
    const int components = reading.jpeg.num_components;
    if (components != 1 && components != 3) {
        throw Refused("a JPEG file with other colours than grey and RGB (got " + std::to_string(components) +
                      " components); convert it to RGB");
    }
    require_size(reading.jpeg.image_width, reading.jpeg.image_height, file.size());
    reading.jpeg.out_color_space = components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    Decoded image{reading.jpeg.image_height, reading.jpeg.image_width, static_cast<std::size_t>(components), {}};
    image.bytes.resize(image.height * image.width * image.channels);
    reading.rows = image.bytes.data();
    if (!read_rows(reading)) {
        refuse_damaged(reading.reason);
    }
    return image;
}

}  // namespace paraexport::images
