#include "bundle/safetensors.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "bundle/json.hpp"

namespace paraexport::core {
namespace {

constexpr std::size_t LENGTH_BYTES = 8, MOST_HEADER_BYTES = 100'000'000;

constexpr std::array<std::pair<std::string_view, std::size_t>, 12> BYTES{{{"BOOL", 1},
                                                                          {"U8", 1},
                                                                          {"I8", 1},
                                                                          {"I16", 2},
                                                                          {"U16", 2},
                                                                          {"F16", 2},
                                                                          {"BF16", 2},
                                                                          {"I32", 4},
                                                                          {"U32", 4},
                                                                          {"F32", 4},
                                                                          {"F64", 8},
                                                                          {"I64", 8}}};

[[noreturn]] void refuse(const std::string &reason) {
    throw std::invalid_argument(reason);
}

std::size_t bytes_of(const std::string &dtype) {
    for (const auto &[name, bytes] : BYTES) {
        if (name == dtype) {
            return bytes;
        }
    }
    refuse("unknown type " + dtype);
}

std::size_t size_in(const Json &value, const std::string &name) {
    if (value.kind != Json::Kind::integer || value.integer < 0) {
        refuse(name + " has a size that is no whole number");
    }
    return static_cast<std::size_t>(value.integer);
}

Tensor tensor_in(const std::string &name, const Json &entry, std::string_view data) {
    const Json *dtype = entry.find("dtype"), *shape = entry.find("shape"), *offsets = entry.find("data_offsets");
    if (dtype == nullptr || dtype->kind != Json::Kind::string || shape == nullptr || shape->kind != Json::Kind::array ||
        offsets == nullptr || offsets->kind != Json::Kind::array || offsets->items.size() != 2 ||
        entry.members.size() != 3) {
        refuse(name + " has no dtype, shape and data_offsets");
    }
    Tensor tensor{dtype->string, {}, {}};
    std::size_t bytes = bytes_of(tensor.dtype);
    for (const Json &side : shape->items) {
        const std::size_t size = size_in(side, name);
        if (size != 0 && bytes > data.size() / size) {
            refuse(name + " is larger than the file");
        }
        bytes *= size;
        tensor.shape.push_back(size);
    }
    const std::size_t start = size_in(offsets->items[0], name), end = size_in(offsets->items[1], name);
    if (start > end || end > data.size() || end - start != bytes) {
        refuse(name + " has data_offsets that do not fit its shape or the file");
    }
    tensor.bytes = data.substr(start, bytes);
    return tensor;
}

void require_texts(const Json &metadata) {
    const auto is_text = [](const Json::Member &member) { return member.second.kind == Json::Kind::string; };
    if (metadata.kind != Json::Kind::object ||
        !std::all_of(metadata.members.begin(), metadata.members.end(), is_text)) {
        refuse("__metadata__ is not an object of strings");
    }
}

void require_no_gaps(const std::map<std::string, Tensor> &tensors, std::string_view data) {
    std::vector<std::string_view> parts;
    parts.reserve(tensors.size());
    for (const auto &named : tensors) {
        parts.push_back(named.second.bytes);
    }
    std::sort(parts.begin(), parts.end(), [](std::string_view one, std::string_view other) {
        return std::pair{one.data(), one.size()} < std::pair{other.data(), other.size()};
    });
    const char *next = data.data();
    for (const std::string_view part : parts) {
        if (part.data() != next) {
            refuse("tensors overlap, or there is a gap between them");
        }
        next += part.size();
    }
    if (next != data.data() + data.size()) {
        refuse("the tensors end elsewhere than the file");
    }
}

}  // namespace

std::size_t Tensor::count() const {
    std::size_t count = 1;
    for (const std::size_t size : shape) {
        count *= size;
    }
    return count;
}

std::string Tensor::text() const {
    std::string sizes;
    for (const std::size_t size : shape) {
        sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
    }
    const char *name = dtype == "F32" ? "float32" : dtype == "U8" ? "uint8" : dtype.c_str();
    return std::string{name} + " [" + sizes + "]";
}

std::vector<float> Tensor::floats() const {
    std::vector<float> values(count());
    if (!values.empty()) {
        std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
    }
    return values;
}

std::map<std::string, Tensor> parse_safetensors(std::string_view file) {
    if (file.size() < LENGTH_BYTES) {
        refuse("the file is shorter than its header");
    }
    std::uint64_t length = 0;
    for (std::size_t i = LENGTH_BYTES; i-- > 0;) {
        length = length << 8 | static_cast<unsigned char>(file[i]);
    }
    if (length > std::min(MOST_HEADER_BYTES, file.size() - LENGTH_BYTES)) {
        refuse("the header is larger than the file, or than 100 MB");
    }
    const auto header_bytes = static_cast<std::size_t>(length);
    const Json header = parse_json(file.substr(LENGTH_BYTES, header_bytes));
    if (header.kind != Json::Kind::object) {
        refuse("the header is not a JSON object");
    }
    const std::string_view data = file.substr(LENGTH_BYTES + header_bytes);
    std::map<std::string, Tensor> tensors;
    for (const auto &[name, entry] : header.members) {
        if (name == "__metadata__") {
            require_texts(entry);
        } else {
            tensors.emplace(name, tensor_in(name, entry, data));
        }
    }
    require_no_gaps(tensors, data);
    return tensors;
}

}  // namespace paraexport::core
