#include "bundle/external_data.hpp"

#include <cstdint>
#include <initializer_list>
#include <stdexcept>

namespace paraexport::core {
namespace {

/// As deep as protobuf itself reads.
constexpr int MOST_LEVELS = 100;
/// `TensorProto.data_location`, and its value for weights in another file.
constexpr std::uint64_t LOCATION = 14, EXTERNAL = 1;

/// The messages of ONNX that may hold tensors, or hold messages that do.
enum class Message { none, model, graph, node, attribute, tensor, sparse_tensor, function, training, entry };

struct Part {
    std::uint64_t field;
    Message message;
};

/// The fields with such messages, by their numbers in onnx.proto.
std::initializer_list<Part> parts_of(Message message) {
    static constexpr std::initializer_list<Part> none{};
    static constexpr std::initializer_list<Part> model{
        {7, Message::graph}, {20, Message::training}, {25, Message::function}};
    static constexpr std::initializer_list<Part> graph{
        {1, Message::node}, {5, Message::tensor}, {15, Message::sparse_tensor}};
    static constexpr std::initializer_list<Part> node{{5, Message::attribute}};
    static constexpr std::initializer_list<Part> attribute{{5, Message::tensor},         {6, Message::graph},
                                                           {10, Message::tensor},        {11, Message::graph},
                                                           {22, Message::sparse_tensor}, {23, Message::sparse_tensor}};
    static constexpr std::initializer_list<Part> tensor{{13, Message::entry}};
    static constexpr std::initializer_list<Part> sparse_tensor{{1, Message::tensor}, {2, Message::tensor}};
    static constexpr std::initializer_list<Part> function{{7, Message::node}, {11, Message::attribute}};
    static constexpr std::initializer_list<Part> training{{1, Message::graph}, {2, Message::graph}};
    switch (message) {
        case Message::model: return model;
        case Message::graph: return graph;
        case Message::node: return node;
        case Message::attribute: return attribute;
        case Message::tensor: return tensor;
        case Message::sparse_tensor: return sparse_tensor;
        case Message::function: return function;
        case Message::training: return training;
        case Message::entry:
        case Message::none: return none;
    }
    return none;
}

[[noreturn]] void refuse() {
    throw std::invalid_argument("the file is not an ONNX model: no protobuf message");
}

/// Reads the fields of one message, one after another.
class Fields {
public:
    explicit Fields(std::string_view bytes) : bytes_{bytes} {}

    std::uint64_t number = 0;
    std::uint64_t value = 0;     ///< of a field with a number
    std::string_view content{};  ///< of a field with bytes; else empty
    bool has_bytes = false;

    bool next() {
        if (at_ == bytes_.size()) {
            return false;
        }
        const std::uint64_t tag = varint();
        number = tag >> 3;
        content = {};
        has_bytes = false;
        switch (tag & 7) {
            case 0: value = varint(); break;
            case 1: take(8); break;
            case 2:
                content = take(varint());
                has_bytes = true;
                break;
            case 5: take(4); break;
            default: refuse();
        }
        if (number == 0) {
            refuse();
        }
        return true;
    }

private:
    std::uint64_t varint() {
        std::uint64_t result = 0;
        for (unsigned shift = 0; shift < 70; shift += 7) {
            if (at_ == bytes_.size()) {
                refuse();
            }
            const auto byte = static_cast<unsigned char>(bytes_[at_++]);
            result |= shift < 64 ? std::uint64_t{byte & 0x7Fu} << shift : 0;
            if (byte < 0x80) {
                return result;
            }
        }
        refuse();
    }

    std::string_view take(std::uint64_t size) {
        if (size > bytes_.size() - at_) {
            refuse();
        }
        const std::string_view part = bytes_.substr(at_, static_cast<std::size_t>(size));
        at_ += part.size();
        return part;
    }

    std::string_view bytes_;
    std::size_t at_ = 0;
};

/// The value of an entry of `external_data`, if its key is `location`.
void add_location(std::string_view entry, std::set<std::string> &files) {
    std::string_view key, value;
    for (Fields fields{entry}; fields.next();) {
        key = fields.number == 1 && fields.has_bytes ? fields.content : key;
        value = fields.number == 2 && fields.has_bytes ? fields.content : value;
    }
    if (key == "location") {
        files.emplace(value);
    }
}

void search(std::string_view bytes, Message message, int level, std::set<std::string> &files) {
    if (level > MOST_LEVELS) {
        refuse();
    }
    bool external = false;
    for (Fields fields{bytes}; fields.next();) {
        external = external || (message == Message::tensor && fields.number == LOCATION && fields.value == EXTERNAL);
        for (const Part &part : parts_of(message)) {
            if (part.field != fields.number || !fields.has_bytes) {
                continue;
            }
            if (part.message == Message::entry) {
                external = true;
                add_location(fields.content, files);
            } else {
                search(fields.content, part.message, level + 1, files);
            }
        }
    }
    if (external && files.empty()) {
        files.emplace();  // it names no file
    }
}

}  // namespace

std::set<std::string> external_files(std::string_view model) {
    std::set<std::string> files;
    search(model, Message::model, 0, files);
    return files;
}

}  // namespace paraexport::core
