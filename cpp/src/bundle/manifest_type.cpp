/// The table of the fields of `manifest.json`, as `docs/bundle.md` describes them. It mirrors the dataclasses of
/// `paraexport.bundle.records`; `tests/cpp/test_manifest.py` compares both.
#include "bundle/schema.hpp"

namespace paraexport::core {
namespace {

constexpr Type BOOL{Type::BOOL}, INT{Type::INT}, FLOAT{Type::FLOAT}, STR{Type::STR};
constexpr Type BOOL_OR_NULL{Type::BOOL | Type::NIL}, FLOAT_OR_NULL{Type::FLOAT | Type::NIL};
constexpr Type STR_OR_NULL{Type::STR | Type::NIL}, INT_OR_STR{Type::INT | Type::STR};

constexpr Type list_of(const Type &item) {
    return {Type::ARRAY, &item};
}
constexpr Type map_of(const Type &item) {
    return {Type::OBJECT, &item};
}
constexpr Type object_of(const Field *fields) {
    return {Type::OBJECT, nullptr, 0, fields};
}
constexpr Type one_of(const char *choices) {
    return {Type::STR, nullptr, 0, nullptr, choices};
}

constexpr Type STRINGS = list_of(STR), FLOATS = list_of(FLOAT), INTS_OR_NULL{Type::ARRAY | Type::NIL, &INT};
constexpr Type STRING_MAP = map_of(STR), INT_MAP = map_of(INT), FLOAT_MAP = map_of(FLOAT);
constexpr Type TWO_INTS{Type::ARRAY, &INT, 2}, INT_OR_TWO{Type::INT | Type::ARRAY, &INT, 2};
constexpr Type TWO_STRINGS{Type::ARRAY, &STR, 2}, STRING_PAIRS = list_of(TWO_STRINGS);

constexpr Field SOURCE_FIELDS[] = {{"name", &STR},
                                   {"sha256", &STR},
                                   {"convention", &STR},
                                   {"overrides", &STRING_MAP},
                                   {"module", &STR_OR_NULL, false},
                                   {"weights", &STR_OR_NULL, false},
                                   {"renames", &STRING_PAIRS, false},
                                   {"branches", &INTS_OR_NULL, false},
                                   {}};
constexpr Type SOURCE = object_of(SOURCE_FIELDS);

constexpr Field REWRITE_FIELDS[] = {{"name", &STR}, {"times", &INT}, {"refusals", &STRINGS}, {}};
constexpr Type REWRITE = object_of(REWRITE_FIELDS), REWRITES = list_of(REWRITE);

constexpr Field PART_ERROR_FIELDS[] = {{"part", &STR}, {"error", &FLOAT}, {"kept", &BOOL}, {}};
constexpr Type PART_ERROR = object_of(PART_ERROR_FIELDS), PART_ERRORS = list_of(PART_ERROR);

constexpr Field EFFECT_FIELDS[] = {{"remedy", &STR}, {"error", &FLOAT}, {}};
constexpr Type EFFECT = object_of(EFFECT_FIELDS), EFFECTS = list_of(EFFECT);

constexpr Field LOWERING_FIELDS[] = {{"calibration", &STR},
                                     {"calibrator", &STR},
                                     {"equalised", &BOOL},
                                     {"kept", &STRINGS},
                                     {"reason", &STR},
                                     {"errors", &PART_ERRORS},
                                     {"additivity", &FLOAT_OR_NULL},
                                     {"float32", &STRINGS},
                                     {"products", &INT_MAP},
                                     {"linear_multiply_adds", &INT},
                                     {"effects", &EFFECTS, false},
                                     {"rounding", &FLOAT_OR_NULL, false},
                                     {"constant", &STRINGS, false},
                                     {}};
constexpr Type LOWERING{Type::OBJECT | Type::NIL, nullptr, 0, LOWERING_FIELDS};

constexpr Field CANDIDATE_FIELDS[] = {{"target", &STR},  {"layout", &STR},         {"latency_ms", &FLOAT_MAP},
                                      {"chosen", &BOOL}, {"failure", &STR, false}, {}};
constexpr Type CANDIDATE = object_of(CANDIDATE_FIELDS), CANDIDATES = list_of(CANDIDATE);

constexpr Field RUNTIME_FIELDS[] = {{"library", &STR},
                                    {"minimum_version", &STR},
                                    {"file", &STR},
                                    {"device", &STR},
                                    {"settings", &STRING_MAP, false},
                                    {"settings_if_int8_saturates", &STRING_MAP, false},
                                    {"device_options", &STRING_MAP, false},
                                    {"environment", &STRING_MAP, false},
                                    {}};
constexpr Type RUNTIME{Type::OBJECT | Type::NIL, nullptr, 0, RUNTIME_FIELDS};

constexpr Type SHAPE = list_of(INT_OR_STR);
constexpr Field TENSOR_FIELDS[] = {{"name", &STR}, {"dtype", &STR}, {"shape", &SHAPE}, {}};
constexpr Type TENSOR = object_of(TENSOR_FIELDS), TENSORS = list_of(TENSOR);

constexpr Type INTERPOLATION = one_of("nearest bilinear bicubic lanczos "), RESAMPLE = one_of("horizontal_first ");
constexpr Field PREPROCESSING_FIELDS[] = {{"image_size", &TWO_INTS},      {"channels", &INT},
                                          {"resize", &INT_OR_TWO},        {"interpolation", &INTERPOLATION, false},
                                          {"resample", &RESAMPLE, false}, {"mean", &FLOATS, false},
                                          {"std", &FLOATS, false},        {}};
constexpr Type PREPROCESSING = object_of(PREPROCESSING_FIELDS);

constexpr Type SCORE_ACTIVATION = one_of("softmax sigmoid exp none ");
constexpr Type SCORE_KIND = one_of("exclusive independent ranking values ");
constexpr Field SCORES_FIELDS[] = {{"activation", &SCORE_ACTIVATION, false},
                                   {"kind", &SCORE_KIND, false},
                                   {"reason", &STR, false},
                                   {"negative", &STR, false},
                                   {}};
constexpr Type SCORES = object_of(SCORES_FIELDS);

constexpr Type RESIDUAL = one_of("input normalized post "), ACTIVATION = one_of("gelu gelu_tanh relu ");
constexpr Type POOL = one_of("cls mean patch_mean "), NORM = one_of("before after none ");
constexpr Type PATCH_PROJECTION = one_of("linear conv ");
constexpr Field SPEC_FIELDS[] = {{"image_size", &TWO_INTS},
                                 {"channels", &INT},
                                 {"classes", &INT},
                                 {"patch_size", &TWO_INTS},
                                 {"dim", &INT},
                                 {"branches", &INT},
                                 {"depth", &INT},
                                 {"heads", &INT},
                                 {"head_dim", &INT},
                                 {"mlp_dim", &INT},
                                 {"residual", &RESIDUAL, false},
                                 {"activation", &ACTIVATION, false},
                                 {"pool", &POOL, false},
                                 {"norm", &NORM, false},
                                 {"eps", &FLOAT, false},
                                 {"patch_projection", &PATCH_PROJECTION, false},
                                 {"patch_norms", &BOOL, false},
                                 {"class_token", &BOOL, false},
                                 {"qkv_bias", &BOOL, false},
                                 {"layer_scale", &BOOL, false},
                                 {}};
constexpr Type SPEC{Type::OBJECT | Type::NIL, nullptr, 0, SPEC_FIELDS};

constexpr Field ASSUMPTION_FIELDS[] = {{"field", &STR}, {"value", &STR}, {"reason", &STR}, {}};
constexpr Type ASSUMPTION = object_of(ASSUMPTION_FIELDS), ASSUMPTIONS = list_of(ASSUMPTION);

constexpr Field CHECK_FIELDS[] = {{"name", &STR},    {"value", &FLOAT_OR_NULL}, {"limit", &FLOAT}, {"unit", &STR},
                                  {"samples", &INT}, {"passed", &BOOL_OR_NULL}, {"reason", &STR},  {}};
constexpr Type CHECK = object_of(CHECK_FIELDS), CHECKS = list_of(CHECK);

constexpr Field FEWER_BRANCHES_FIELDS[] = {
    {"branches", &INT}, {"file", &STR}, {"checks", &CHECKS}, {"lowering", &LOWERING, false}, {}};
constexpr Type FEWER_BRANCHES = object_of(FEWER_BRANCHES_FIELDS), FEWER_BRANCHES_LIST = list_of(FEWER_BRANCHES);

constexpr Field FILE_FIELDS[] = {{"sha256", &STR}, {"size_bytes", &INT}, {}};
constexpr Type FILE_ENTRY = object_of(FILE_FIELDS), FILES = map_of(FILE_ENTRY);

constexpr Field MANIFEST_FIELDS[] = {{"format", &INT},
                                     {"digest", &STR},
                                     {"paraexport", &STR},
                                     {"key", &STR},
                                     {"source", &SOURCE},
                                     {"target", &STR},
                                     {"precision", &STR},
                                     {"layout", &STR},
                                     {"rewrites", &REWRITES},
                                     {"lowering", &LOWERING, false},
                                     {"candidates", &CANDIDATES, false},
                                     {"runtime", &RUNTIME, false},
                                     {"fewer_branches", &FEWER_BRANCHES_LIST, false},
                                     {"max_batch", &INT},
                                     {"inputs", &TENSORS},
                                     {"outputs", &TENSORS},
                                     {"preprocessing", &PREPROCESSING},
                                     {"labels", &STRINGS},
                                     {"scores", &SCORES, false},
                                     {"spec", &SPEC},
                                     {"assumptions", &ASSUMPTIONS},
                                     {"evidence", &STR},
                                     {"checks", &CHECKS},
                                     {"versions", &STRING_MAP},
                                     {"files", &FILES},
                                     {}};

}  // namespace

const Type MANIFEST_TYPE{Type::OBJECT, nullptr, 0, MANIFEST_FIELDS};

}  // namespace paraexport::core
