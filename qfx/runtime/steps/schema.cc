#include "runtime/steps/schema.h"

#include <cfloat>

namespace qfx {
namespace {

using Presence = Operand::Presence;

constexpr int kAny = Attribute::kAny, kSpatial = Attribute::kSpatial, kRank = Attribute::kRank;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Attributes are small numbers; anything larger is a mistake, and this keeps shape arithmetic from overflowing.
constexpr double kMost = 2147483647.0;
// Neighbours that share a scale: their sums stay in 32 bits.
constexpr double kMostInGroup = 32768.0;

constexpr DTypes kU8 = types_of({DType::u8}), kF32 = types_of({DType::f32}), kS8 = types_of({DType::s8});
constexpr DTypes kS32 = types_of({DType::s32}), kS64 = types_of({DType::s64}), kF16 = types_of({DType::f16});
constexpr DTypes kBF16 = types_of({DType::bf16}), kS4 = types_of({DType::s4});
constexpr DTypes kBool = types_of({DType::boolean});

constexpr DTypes whole_bytes() {
  DTypes types = 0;
  for (const DTypeRow& row : kDTypes) types |= is_whole_bytes(row.dtype) ? types_of({row.dtype}) : 0;
  return types;
}

Attribute of_kind(const char* name, AttributeKind kind, const char* about, double low, double high) {
  return {.name = name, .kind = kind, .about = about, .low = low, .high = high};
}

std::vector<Attribute> joined(std::vector<Attribute> a, const std::vector<Attribute>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// A table of u8 that codes of a u8 result go through last.
Attribute lut() {
  return constant("lut", kU8, "256 codes, through which the code of the result goes last").optional();
}
Attribute clamp() {
  return integer("clamp", "the lowest and highest code of a u8 result").entries(2).within(0, 255).otherwise({0, 255});
}
Attribute f32_clamp() {
  return number("f32_clamp", "the bounds of an f32 result")
      .entries(2)
      .within(-kInfinity, kInfinity)
      .otherwise({-kInfinity, kInfinity});
}
Attribute per_row() {
  return flag("per_row", "whether each row that is quantized has a scale of its own; 0: one for all of them")
      .otherwise({0});
}
Attribute result_zero_point() {
  return code("zero_point", "of a u8 result, which needs it").optional();
}

// ---------------------------------------------------------------- quantize, dequantize

std::vector<StepSchema> quantize_schemas() {
  const std::vector<Attribute> attributes = {
      integer("perm", "the operand's dim that each dim of the result is").entries(kRank), code("zero_point"),
      single("scale").within(FLT_TRUE_MIN, FLT_MAX)};
  return {{.op = "quantize",
           .about = "float32 to codes, in another order of dims.",
           .operands = {{"x", kF32}},
           .results = {{"y", kU8}},
           .attributes = attributes,
           .strided_input = true,
           .per_image = true,
           .row_window = true},
          {.op = "dequantize",
           .about = "Codes to float32, in another order of dims.",
           .operands = {{"x", kU8}},
           .results = {{"y", kF32}},
           .attributes = attributes,
           .per_image = true}};
}

// ---------------------------------------------------------------- products

StepSchema conv_schema() {
  return {.op = "conv",
          .about =
              "A convolution of 1 to 3 spatial dims, channels last; with a matrix as weight, a linear layer over "
              "the last dim.",
          .operands = {{"x", kU8}, {"residual", kU8 | kF32, Presence::optional}},
          .results = {{"y", kU8 | kF32}},
          .attributes =
              {
                  integer("stride").entries(kAny).within(1, kMost).otherwise({1}),
                  integer("padding_lo").entries(kAny).within(0, kMost).otherwise({0}),
                  integer("padding_hi").entries(kAny).within(0, kMost).otherwise({0}),
                  integer("dilation").entries(kAny).within(1, kMost).otherwise({1}),
                  integer("groups").within(1, kMost).otherwise({1}),
                  code("x_zero_point"),
                  result_zero_point(),
                  clamp(),
                  f32_clamp(),
                  code("residual_zero_point", "of a u8 residual, which needs it").optional(),
                  single("residual_multiplier", "a u8 residual's scale over the result's, which it needs").optional(),
                  constant("weight", kS8, "[O, spatial..., C / groups]"),
                  constant("bias", kS32, "[O]"),
                  constant("multiplier", kF32, "[O]: from the accumulator to the result"),
                  constant("weight_zero_point", kS32, "[O]; 0 where it is left out").optional(),
                  lut(),
              },
          .per_image = true,
          .row_window = true,
          .pixel_strides = true};
}

StepSchema linear_dynamic_schema() {
  return {
      .op = "linear_dynamic",
      .about = "A linear layer that quantizes its operand x.",
      .operands = {{"x", kF32}, {"residual", kF32, Presence::optional}},
      .results = {{"y", kF32}},
      .attributes = {per_row(), f32_clamp(), constant("weight", kS8, "[O, C]"), constant("weight_scale", kF32, "[O]"),
                     constant("weight_zero_point", kS32, "[O]; 0 where it is left out").optional(),
                     constant("bias", kF32, "[O]").optional()},
      .per_image = true};
}

StepSchema linear_half_schema() {
  return {.op = "linear_half",
          .about = "A linear layer in float32 with weights of 16 bits.",
          .operands = {{"x", kF32}},
          .results = {{"y", kF32}},
          .attributes = {constant("weight", kF16 | kBF16, "[O, C]"), constant("bias", kF32, "[O]").optional()},
          .per_image = true};
}

StepSchema linear_grouped_schema() {
  return {
      .op = "linear_grouped",
      .about = "A linear layer in float32 with integer weights, which have a scale for each group of C / G of them.",
      .operands = {{"x", kF32}},
      .results = {{"y", kF32}},
      .attributes =
          {constant("weight", kS8 | kS4, "[O, C]"), constant("weight_scale", kF32 | kF16, "[O, G]"),
           constant("weight_zero_point", kS8 | kS4, "[O, G], as the weight; 0 where it is left out").optional(),
           constant("bias", kF32, "[O]").optional()},
      .per_image = true};
}

StepSchema linear_dynamic_grouped_schema() {
  StepSchema row = linear_grouped_schema();
  row.op = "linear_dynamic_grouped";
  row.about =
      "A linear layer that quantizes its operand x by groups of each row; weights have a scale for C / G of them.";
  row.operands = {{"x", kF32}, {"residual", kF32, Presence::optional}};
  row.attributes = joined({integer("x_group", "neighbours of a row of x that share a scale; divides C / G, or G is 1")
                               .within(1, kMostInGroup),
                           f32_clamp()},
                          row.attributes);
  return row;
}

std::vector<StepSchema> matmul_schemas() {
  const char* const order = "where each dim of [batch..., rows, columns] lies in memory; in order where left out";
  return {{.op = "matmul",
           .about = "A product of two matrices of codes, or of batches of them that broadcast.",
           .operands = {{"x", kU8}, {"y", kU8}},
           .results = {{"z", kU8 | kF32}},
           .attributes = {integer("x_perm", order).entries(kRank).optional(),
                          integer("y_perm", order).entries(kRank).optional(),
                          integer("perm", order).entries(kRank).optional(), code("x_zero_point"), code("y_zero_point"),
                          result_zero_point(), clamp(), f32_clamp(), single("multiplier"), lut()},
           .per_image = true},
          {.op = "matmul_f32",
           .about = "[..., m, k] times [..., k, n] of one rank, or times a matrix.",
           .operands = {{"x", kF32}, {"y", kF32}},
           .results = {{"z", kF32}},
           .attributes = {},
           .per_image = true}};
}

std::vector<StepSchema> attention_schemas() {
  const char* const order = "where each dim of [batch, heads, rows, columns] lies in memory; in order where left out";
  return {
      {.op = "attention",
       .about = "softmax(q @ k' + mask) @ v of each head, quantized as it runs; dims of the mask are full or 1.",
       .operands = {{"q", kF32}, {"k", kF32}, {"v", kF32}, {"mask", kF32 | kBool, Presence::optional}},
       .results = {{"y", kF32}},
       .attributes = {single("factor", "the scale times log2(e)"),
                      flag("causal", "query i sees the keys up to i").otherwise({0}),
                      integer("q_perm", order).entries(4).optional(), integer("k_perm", order).entries(4).optional(),
                      integer("v_perm", order).entries(4).optional(), integer("perm", order).entries(4).optional()},
       .per_image = true}};
}

std::vector<StepSchema> rotation_schemas() {
  return {{.op = "rotate",
           .about = "Blocks of the last dim times the orthonormal Hadamard matrix.",
           .operands = {{"x", kF32}},
           .results = {{"y", kF32}},
           .attributes =
               {integer("block", "length of a block: 16, 32, 64 or 128, a divisor of the last dim").within(16, 128)},
           .per_image = true}};
}

std::vector<StepSchema> rotary_schemas() {
  return {{.op = "rotary",
           .about = "Pairs of the last dim's first numbers turned by angles; those of cos and sin broadcast.",
           .operands = {{"x", kF32}, {"cos", kF32}, {"sin", kF32}},
           .results = {{"y", kF32}},
           .attributes =
               {integer("length", "how many numbers turn; cos and sin have as many, or one a pair").within(2, kMost),
                flag("interleaved", "whether a pair's numbers are neighbours; 0: half of them apart"),
                integer("perm", "the dim of x, as cos and sin name it, that each dim in memory is").entries(kRank)},
           .per_image = true}};
}

// ---------------------------------------------------------------- elementwise

StepSchema binary_schema(const char* op, const char* about, bool two_multipliers) {
  std::vector<Attribute> attributes = {code("a_zero_point"), code("b_zero_point"), code("zero_point"), clamp(),
                                       single("a_multiplier")};
  if (two_multipliers) attributes.push_back(single("b_multiplier"));
  attributes.push_back(lut());
  return {.op = op,
          .about = about,
          .operands = {{"a", kU8}, {"b", kU8}},
          .results = {{"y", kU8}},
          .attributes = attributes,
          .per_image = true,
          .row_window = true};
}

StepSchema lookup_schema() {
  return {.op = "lookup",
          .about = "The entry of a table at each code.",
          .operands = {{"x", kU8}},
          .results = {{"y", kU8 | kF32}},
          .attributes = {constant("table", kU8 | kF32, "256 entries of the result's type")},
          .per_image = true,
          .row_window = true};
}

StepSchema float_op_schema(const char* op, const char* about, std::vector<Attribute> attributes = {}) {
  return {.op = op,
          .about = about,
          .operands = {{"x", kF32}},
          .results = {{"y", kF32}},
          .attributes = std::move(attributes),
          .per_image = true};
}

StepSchema float_binary_schema(const char* op, const char* about) {
  return {.op = op,
          .about = about,
          .operands = {{"a", kF32}, {"b", kF32}},
          .results = {{"y", kF32}},
          .attributes = {},
          .per_image = true};
}

std::vector<StepSchema> elementwise_schemas() {
  return {binary_schema("add", "Codes of a sum; operands broadcast.", true),
          binary_schema("sub", "Codes of a difference; operands broadcast.", true),
          binary_schema("mul", "Codes of a product; operands broadcast.", false),
          lookup_schema(),
          float_binary_schema("add_f32", "A sum; operands broadcast."),
          float_binary_schema("sub_f32", "A difference; operands broadcast."),
          float_binary_schema("mul_f32", "A product; operands broadcast."),
          float_binary_schema("div_f32", "A quotient; operands broadcast.")};
}

std::vector<StepSchema> float_op_schemas() {
  const std::vector<Attribute> norm = {number("eps").within(0, DBL_MAX), constant("weight", kF32).optional(),
                                       constant("bias", kF32).optional()};
  Attribute args = number("args", "the function's arguments in turn").entries(kAny).within(-kInfinity, kInfinity);
  args.may_be_nan = true;
  const Attribute axis = integer("axis").within(0, kMost);
  StepSchema gated = float_op_schema("gated_f32", "A function of each element of x, times y.",
                                     {text("function", "its name in the op table"), args.otherwise({})});
  gated.operands.push_back({"y", kF32});
  gated.results[0].name = "z";
  return {gated,
          float_op_schema("softmax", "Of rows along an axis.", {axis}),
          float_op_schema("causal_softmax",
                          "Of the last dim; row i of the dim before it has i + 1 entries, and then zeros."),
          float_op_schema("log_softmax", "Of rows along an axis.", {axis}),
          float_op_schema("layer_norm", "Over the last dims.",
                          joined({integer("ndim", "how many dims").within(1, kMost)}, norm)),
          float_op_schema("rms_norm", "Over the last dims, to unit mean square.",
                          {integer("ndim", "how many dims").within(1, kMost), number("eps").within(0, DBL_MAX),
                           constant("weight", kF32).optional()}),
          float_op_schema("group_norm", "Over groups of channels, which are last.",
                          joined({integer("groups", "0: as many as channels").within(0, kMost)}, norm)),
          float_op_schema("pointwise_f32", "A function of each element.",
                          {text("function", "its name in the op table"), args.otherwise({})})};
}

// ---------------------------------------------------------------- pools, means, interpolation

StepSchema pool_schema(const char* op, const char* about, DTypes types, std::vector<Attribute> attributes,
                       bool row_window = false) {
  return {.op = op,
          .about = about,
          .operands = {{"x", types}},
          .results = {{"y", types}},
          .attributes = std::move(attributes),
          .per_image = true,
          .row_window = row_window};
}

// What rounds an average: the operand's scale over the result's, and the zero points.
std::vector<Attribute> average() {
  return {number("ratio", "the operand's scale over the result's"), code("x_zero_point"), code("zero_point")};
}

std::vector<StepSchema> window_schemas() {
  const std::vector<Attribute> window = {
      integer("kernel").entries(kSpatial).within(1, kMost), integer("stride").entries(kSpatial).within(1, kMost),
      integer("padding_lo").entries(kSpatial).within(0, kMost).otherwise({0}),
      integer("padding_hi").entries(kSpatial).within(0, kMost).otherwise({0}), flag("ceil_mode").otherwise({0})};
  const std::vector<Attribute> most =
      joined(window, {integer("dilation").entries(kSpatial).within(1, kMost).otherwise({1})});
  const std::vector<Attribute> mean =
      joined(window, {flag("count_include_pad").otherwise({1}),
                      integer("divisor", "0: as many as there are elements").within(0, kMost).otherwise({0})});
  const std::vector<Attribute> size = {integer("output_size", "0: as the operand").entries(kSpatial).within(0, kMost)};
  return {pool_schema("max_pool", "The largest code of each window.", kU8, most, true),
          pool_schema("avg_pool", "The mean of each window.", kU8, joined(mean, average()), true),
          pool_schema("adaptive_avg_pool", "Means of as many windows as asked for.", kU8, joined(size, average())),
          pool_schema("adaptive_max_pool", "Largest codes of as many windows as asked for.", kU8, size),
          pool_schema("max_pool_f32", "The largest of each window.", kF32, most),
          pool_schema("avg_pool_f32", "The mean of each window.", kF32, mean),
          pool_schema("adaptive_avg_pool_f32", "Means of as many windows as asked for.", kF32, size),
          pool_schema("adaptive_max_pool_f32", "The largest of as many windows as asked for.", kF32, size)};
}

std::vector<StepSchema> reduction_schemas() {
  const std::vector<Attribute> resample = {
      flag("linear", "0: nearest"), flag("align_corners").otherwise({0}), expr("size").entries(kSpatial).optional(),
      number("scale_factor", "where there is no size").entries(kSpatial).within(DBL_TRUE_MIN, DBL_MAX).optional()};
  return {
      pool_schema("mean", "Over some dims.", kU8,
                  joined({integer("axes").entries(kAny).within(0, kMost), flag("keepdim").otherwise({0})}, average())),
      pool_schema("mean_f32", "[outer, reduced, inner] to [outer, inner].", kF32, {}),
      pool_schema("sum_f32", "[outer, reduced, inner] to [outer, inner].", kF32, {}),
      pool_schema("amax_f32", "[outer, reduced, inner] to [outer, inner].", kF32, {}),
      pool_schema("interpolate", "Another number of pixels.", kU8, joined(resample, {code("zero_point")})),
      pool_schema("interpolate_f32", "Another number of pixels.", kF32, resample)};
}

// ---------------------------------------------------------------- moves

StepSchema move_schema(const char* op, const char* about, std::vector<Attribute> attributes) {
  return {.op = op,
          .about = about,
          .operands = {{"x", whole_bytes()}},
          .results = {{"y", kSameType}},
          .attributes = std::move(attributes),
          .per_image = true};
}

std::vector<StepSchema> move_schemas() {
  const Attribute axis = integer("axis").within(0, kMost);
  const Attribute amounts = integer("lo", "elements in front of each dim; less than 0: that many fewer").entries(kRank);
  Attribute fill = number("fill", "the constant; of u8 a code").within(-kInfinity, kInfinity).otherwise({0});
  fill.may_be_nan = true;
  Attribute behind = amounts;
  behind.name = "hi";
  behind.about = "likewise, behind it";
  StepSchema concat = move_schema("concat", "Operands one behind the other.", {axis});
  concat.operands = {{"xs", whole_bytes(), Presence::any}};
  concat.row_window = true;
  StepSchema permute =
      move_schema("permute", "Another order of dims.",
                  {integer("perm", "the operand's dim that each dim of the result is").entries(kRank)});
  permute.strided_input = true;
  StepSchema pad = move_schema(
      "pad", "More elements, or fewer, around each dim.",
      {amounts, behind,
       integer("mode", "0: constant, 1: reflect, 2: replicate, 3: circular").within(0, 3).otherwise({0}), fill});
  pad.operands = {{"x", kU8 | kF32}};
  return {
      concat,
      move_schema("reshape", "The same elements in another shape.",
                  {expr("shape", "one of them may be -1: what is left").entries(kAny)}),
      permute,
      move_schema("slice", "Every so manieth element along an axis.",
                  {axis, integer("step").within(1, kMost).otherwise({1}), expr("start"), expr("end")}),
      pad,
      move_schema("expand", "Dims of length 1 repeated, and more of them in front.",
                  {expr("shape", "-1: as the operand").entries(kAny)}),
      move_schema("windows", "Windows that slide along some axes; their dims are behind the last of these.",
                  {integer("axes", "in ascending order").entries(kAny).within(0, kMost),
                   integer("size", "of a window along each axis").entries(kAny).within(1, kMost),
                   integer("stride", "from one window to the next").entries(kAny).within(1, kMost),
                   integer("dilation", "from one element of a window to the next").entries(kAny).within(1, kMost)})};
}

// ---------------------------------------------------------------- integers

constexpr DTypes kElements = kF32 | kS32 | kS64 | kBool;

std::vector<StepSchema> element_schemas() {
  return {
      {.op = "cast",
       .about = "To the nearest f32, to the integer towards 0 (the last one beyond, 0 of NaN), to whether it is not 0.",
       .operands = {{"x", kElements}},
       .results = {{"y", kElements}},
       .attributes = {},
       .per_image = true},
      {.op = "pairwise",
       .about = "A function of two elements; operands are of one type and broadcast.",
       .operands = {{"a", kElements}, {"b", kElements}},
       .results = {{"y", kElements}},
       .attributes = {text("function",
                           "eq, ne, lt, le, gt or ge, which give bool; of integers add, sub, mul, minimum "
                           "or maximum, modulo their range; of integers and bool and, or or xor")},
       .per_image = true},
      {.op = "where",
       .about = "The element of a where the condition holds, else that of b; operands broadcast.",
       .operands = {{"condition", kBool}, {"a", kElements}, {"b", kElements}},
       .results = {{"y", kElements}},
       .attributes = {},
       .per_image = true}};
}

// A table of which indices take rows.
std::vector<Attribute> table_attributes() {
  return {constant("table", kF32 | kF16 | kBF16 | kS8 | kS4, "[rows, features]"),
          constant("scale", kF32 | kF16, "of codes: one, a row's, or [rows, groups]").optional(),
          constant("zero_point", kS32 | kS8 | kS4, "as many; by groups of the table's type; 0 where it is left out")
              .optional()};
}

std::vector<Attribute> bag_attributes() {
  return joined(table_attributes(),
                {text("mode", "sum, mean or max"),
                 integer("padding", "an index that no bag counts; -1: none").within(-1, kMost).otherwise({-1})});
}

std::vector<StepSchema> index_schemas() {
  const Attribute axis = integer("axis").within(0, kMost);
  return {
      {.op = "embedding",
       .about = "The row of a table at each index; of codes float(code - zero point) * scale.",
       .operands = {{"indices", kS32 | kS64}},
       .results = {{"y", kF32}},
       .attributes = table_attributes(),
       .per_image = true},
      {.op = "embedding_bag",
       .about = "What becomes of the rows of a table at each row of indices.",
       .operands = {{"indices", kS32 | kS64}, {"factors", kF32, Operand::Presence::optional}},
       .results = {{"y", kF32}},
       .attributes = bag_attributes(),
       .per_image = true},
      {.op = "ragged_embedding_bag",
       .about = "The same of bags that begin where offsets say in indices of one dim.",
       .operands = {{"indices", kS32 | kS64}, {"offsets", kS64}, {"factors", kF32, Operand::Presence::optional}},
       .results = {{"y", kF32}},
       .attributes =
           joined(bag_attributes(), {flag("include_last", "whether the last offset begins no bag").otherwise({0})})},
      {.op = "gather",
       .about = "The element at the place of each index, along an axis where the index says.",
       .operands = {{"x", kElements}, {"index", kS64}},
       .results = {{"y", kSameType}},
       .attributes = {axis},
       .per_image = true},
      {.op = "take",
       .about = "The parts at indices of the first dims, an operand a dim; they broadcast, and may count from the end.",
       .operands = {{"x", kElements},
                    {"i", kS64},
                    {"j", kS64, Operand::Presence::optional},
                    {"k", kS64, Operand::Presence::optional}},
       .results = {{"y", kSameType}},
       .attributes = {},
       .per_image = true}};
}

std::vector<StepSchema> scan_schemas() {
  const Attribute axis = integer("axis").within(0, kMost);
  return {
      {.op = "arange",
       .about = "Numbers from the operand's on.",
       .operands = {{"first", kS64}},
       .results = {{"y", kS64}},
       .attributes = {expr("count"), integer("step", "between neighbours").within(-kMost, kMost)},
       .per_image = true},
      {.op = "cumsum",
       .about = "Of the elements up to each.",
       .operands = {{"x", kS64}},
       .results = {{"y", kS64}},
       .attributes = {axis},
       .per_image = true},
      {.op = "argmax",
       .about = "Where along an axis, which y does not have, the first of the largest is; NaN is larger than numbers.",
       .operands = {{"x", kF32 | kS64}},
       .results = {{"y", kS64}},
       .attributes = {axis},
       .per_image = true}};
}

// ---------------------------------------------------------------- recurrent layers

StepSchema recurrent_schema(const char* op, const char* about, bool has_cell_state) {
  std::vector<Attribute> attributes = {
      integer("directions").within(1, 2).otherwise({1}),
      integer("first", "the first state that is this layer's").within(0, kMost).otherwise({0}), per_row(),
      flag("same_state", "whether the states are of one sequence, and all begin with them").otherwise({0})};
  const DTypes weights = kS8 | kF16;
  const auto matrix = [&](const Attribute& weight, const char* scale, const char* zero_point) {
    attributes.push_back(weight);
    attributes.push_back(constant(scale, kF32, "a row, of s8").optional());
    attributes.push_back(constant(zero_point, kS32, "a row, of s8; 0 where it is left out").optional());
  };
  matrix(constant("weight_ih", weights, "[directions * gates * hidden, inputs]"), "weight_ih_scale",
         "weight_ih_zero_point");
  matrix(constant("weight_hh", weights, "[directions * gates * hidden, state]"), "weight_hh_scale",
         "weight_hh_zero_point");
  if (has_cell_state) {
    matrix(constant("weight_hr", weights, "[directions * state, hidden]: the projection").optional(), "weight_hr_scale",
           "weight_hr_zero_point");
  }
  attributes.push_back(constant("bias_ih", kF32).optional());
  attributes.push_back(constant("bias_hh", kF32).optional());
  StepSchema schema{.op = op,
                    .about = about,
                    .operands = {{"x", kF32}, {"h", kF32}},
                    .results = {{"y", kF32}, {"h", kF32}},
                    .attributes = {}};
  if (has_cell_state) {
    schema.operands.push_back({"c", kF32});
    schema.results.push_back({"c", kF32});
  }
  schema.operands.push_back({"batch_sizes", kS64, Presence::optional});
  schema.attributes = std::move(attributes);
  return schema;
}

std::vector<StepSchema> recurrent_schemas() {
  return {recurrent_schema(
              "lstm", "An LSTM layer over packed sequences, or those of equal lengths, in one direction or two.", true),
          recurrent_schema(
              "gru", "A GRU layer over packed sequences, or those of equal lengths, in one direction or two.", false),
          recurrent_schema("rnn_tanh",
                           "An Elman layer over packed sequences, or those of equal lengths, in one direction or two.",
                           false),
          recurrent_schema("rnn_relu", "The same with relu.", false)};
}

std::vector<StepSchema> all_schemas() {
  std::vector<StepSchema> all = {conv_schema(), linear_dynamic_schema(), linear_half_schema(), linear_grouped_schema(),
                                 linear_dynamic_grouped_schema()};
  for (auto* family : {quantize_schemas, matmul_schemas, attention_schemas, rotation_schemas, rotary_schemas,
                       elementwise_schemas, window_schemas, reduction_schemas, move_schemas, element_schemas,
                       index_schemas, scan_schemas, float_op_schemas, recurrent_schemas}) {
    for (StepSchema& schema : family()) all.push_back(std::move(schema));
  }
  return all;
}

}  // namespace

std::string to_string(DTypes types) {
  std::string names;
  for (const DTypeRow& row : kDTypes) {
    if (holds(types, row.dtype)) names += (names.empty() ? "" : " or ") + std::string(row.name);
  }
  return names;
}

Attribute Attribute::entries(int n) const {
  Attribute a = *this;
  a.count = n;
  return a;
}

Attribute Attribute::within(double lowest, double highest) const {
  Attribute a = *this;
  a.low = lowest;
  a.high = highest;
  return a;
}

Attribute Attribute::optional() const {
  Attribute a = *this;
  a.required = false;
  return a;
}

Attribute Attribute::otherwise(std::vector<double> values) const {
  Attribute a = optional();
  a.fallback = std::move(values);
  return a;
}

Attribute integer(const char* name, const char* about) {
  return of_kind(name, AttributeKind::integer, about, -kMost, kMost);
}
Attribute code(const char* name, const char* about) {
  return of_kind(name, AttributeKind::integer, about, 0, 255);
}
Attribute flag(const char* name, const char* about) {
  return of_kind(name, AttributeKind::integer, about, 0, 1);
}
Attribute number(const char* name, const char* about) {
  return of_kind(name, AttributeKind::number, about, -DBL_MAX, DBL_MAX);
}
Attribute single(const char* name, const char* about) {
  return of_kind(name, AttributeKind::number, about, -FLT_MAX, FLT_MAX);
}
Attribute expr(const char* name, const char* about) {
  return of_kind(name, AttributeKind::expr, about, 0, 0);
}
Attribute text(const char* name, const char* about) {
  return of_kind(name, AttributeKind::text, about, 0, 0);
}
Attribute constant(const char* name, DTypes types, const char* about) {
  Attribute a = of_kind(name, AttributeKind::constant, about, 0, 0);
  a.types = types;
  return a;
}

const Attribute* StepSchema::find(std::string_view name) const {
  for (const Attribute& a : attributes) {
    if (name == a.name) return &a;
  }
  return nullptr;
}

const std::vector<StepSchema>& step_schemas() {
  static const std::vector<StepSchema> schemas = all_schemas();
  return schemas;
}

}  // namespace qfx
