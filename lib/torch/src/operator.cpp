// Calls any operator of libtorch by its name, with arguments that are checked against its schema.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <string>
#include <vector>

#include "thrown.h"

namespace {

// The kinds of arguments and results; `Tag` in operator.rs has the same numbers.
enum Tag : int { kDefault, kNone, kTensor, kTensors, kInt, kInts, kFloat, kFloats, kBool, kBools, kString, kDevice };

// An argument. Lists and strings are `length` items at `items`: tensors by pointer (null: none), i64, f64, u8.
// A device is its type and index in two i64.
struct Argument {
  int tag;
  int64_t integer;
  double number;
  const void* items;
  size_t length;
};

// What `emit` is given for each result: a list is its length, then its items.
using Emit = void (*)(void* context, int tag, int64_t integer, double number, at::Tensor* tensor);

struct Operator {
  c10::OperatorHandle handle;
  std::vector<c10::Argument> arguments;
  std::vector<c10::TypePtr> types;
};

template <typename T>
std::vector<T> items(const Argument& argument) {
  const auto* first = static_cast<const T*>(argument.items);
  return {first, first + argument.length};
}

at::Tensor wrapped(const at::Scalar& number) {
  auto tensor = at::scalar_tensor(number, at::device(at::kCPU).dtype(number.type()));
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

// The argument as a value of the schema's type.
c10::IValue value(const Argument& argument, const c10::Type& type, const c10::Argument& declared) {
  const auto mismatch = [&]() {
    TORCH_CHECK(false, "the argument '", declared.name(), "' has another type than ", type.repr_str());
  };
  switch (type.kind()) {
    case c10::TypeKind::OptionalType:
      if (argument.tag == kNone) return {};
      return value(argument, *type.castRaw<c10::OptionalType>()->getElementType(), declared);
    case c10::TypeKind::TensorType:
      if (argument.tag == kTensor) return *static_cast<const at::Tensor*>(argument.items);
      // A number in the place of a tensor, as in `x + 1`, does not decide the type of the result.
      if (argument.tag == kInt) return wrapped(argument.integer);
      if (argument.tag == kFloat) return wrapped(argument.number);
      if (argument.tag == kBool) return wrapped(argument.integer != 0);
      break;
    case c10::TypeKind::IntType:
      if (argument.tag == kInt) return argument.integer;
      break;
    case c10::TypeKind::FloatType:
      if (argument.tag == kFloat) return argument.number;
      if (argument.tag == kInt) return static_cast<double>(argument.integer);
      break;
    case c10::TypeKind::BoolType:
      if (argument.tag == kBool) return argument.integer != 0;
      break;
    case c10::TypeKind::NumberType:
      if (argument.tag == kInt) return argument.integer;
      if (argument.tag == kFloat) return argument.number;
      if (argument.tag == kBool) return argument.integer != 0;
      break;
    case c10::TypeKind::StringType:
      if (argument.tag == kString) return std::string(static_cast<const char*>(argument.items), argument.length);
      break;
    case c10::TypeKind::DeviceObjType:
      if (argument.tag == kDevice) {
        const auto device = items<int64_t>(argument);
        return c10::Device(static_cast<c10::DeviceType>(device.at(0)), static_cast<c10::DeviceIndex>(device.at(1)));
      }
      break;
    case c10::TypeKind::ListType: {
      const auto& element = *type.castRaw<c10::ListType>()->getElementType();
      switch (element.kind()) {
        case c10::TypeKind::IntType:
          if (argument.tag == kInts) return items<int64_t>(argument);
          // A number for each axis, as `stride=1`.
          if (argument.tag == kInt) return std::vector<int64_t>(declared.N().value_or(1), argument.integer);
          break;
        case c10::TypeKind::FloatType:
          if (argument.tag == kFloats) return items<double>(argument);
          break;
        case c10::TypeKind::BoolType:
          if (argument.tag == kBools) {
            c10::List<bool> list;
            for (const auto item : items<uint8_t>(argument)) list.push_back(item != 0);
            return list;
          }
          break;
        case c10::TypeKind::TensorType:
          if (argument.tag == kTensors) {
            c10::List<at::Tensor> list;
            for (const auto* item : items<const at::Tensor*>(argument)) {
              if (item == nullptr) mismatch();
              list.push_back(*item);
            }
            return list;
          }
          break;
        case c10::TypeKind::OptionalType:
          if (argument.tag == kTensors &&
              element.castRaw<c10::OptionalType>()->getElementType()->kind() == c10::TypeKind::TensorType) {
            c10::List<std::optional<at::Tensor>> list;
            for (const auto* item : items<const at::Tensor*>(argument)) {
              list.push_back(item == nullptr ? std::nullopt : std::optional<at::Tensor>(*item));
            }
            return list;
          }
          // Numbers in the place of optional ones.
          if (argument.tag == kFloats) {
            auto list = c10::impl::GenericList(type.castRaw<c10::ListType>()->getElementType());
            for (const auto item : items<double>(argument)) list.push_back(item);
            return list;
          }
          break;
        default:
          break;
      }
      // An empty list has no items to tell its type by.
      if (argument.tag == kInts && argument.length == 0) {
        if (element.kind() == c10::TypeKind::FloatType) return std::vector<double>();
        if (element.kind() == c10::TypeKind::TensorType) return c10::List<at::Tensor>();
      }
      break;
    }
    default:
      break;
  }
  mismatch();
  return {};
}

void emit_value(const c10::IValue& result, Emit emit, void* context) {
  if (result.isTensor()) {
    emit(context, kTensor, 0, 0, new at::Tensor(result.toTensor()));
  } else if (result.isTensorList()) {
    const auto list = result.toTensorVector();
    emit(context, kTensors, static_cast<int64_t>(list.size()), 0, nullptr);
    for (const auto& item : list) emit(context, kTensor, 0, 0, new at::Tensor(item));
  } else if (result.isBool()) {
    emit(context, kBool, result.toBool() ? 1 : 0, 0, nullptr);
  } else if (result.isInt() || result.isSymInt()) {
    emit(context, kInt, result.isInt() ? result.toInt() : result.toSymInt().expect_int(), 0, nullptr);
  } else if (result.isDouble()) {
    emit(context, kFloat, 0, result.toDouble(), nullptr);
  } else if (result.isNone()) {
    emit(context, kNone, 0, 0, nullptr);
  } else {
    TORCH_CHECK(false, "a result of type ", result.tagKind());
  }
}

}  // namespace

// The operator of this name, or null. It lives as long as the process.
extern "C" const Operator* parm_operator(const char* name, const char* overload) {
  try {
    const auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!handle.has_value()) return nullptr;
    auto* found = new Operator{*handle, handle->schema().arguments(), {}};
    for (const auto& argument : found->arguments) found->types.push_back(argument.type());
    return found;
  } catch (...) {
    return nullptr;
  }
}

// Whether each call of an operator may give other values.
extern "C" bool parm_operator_is_random(const Operator* of) {
  return of->handle.hasTag(at::Tag::nondeterministic_seeded);
}

// The name of an argument, and whether the operator writes to it. Null after the last one.
extern "C" const char* parm_operator_argument(const Operator* of, size_t at, bool* has_default, bool* written,
                                             bool* shared) {
  if (at >= of->arguments.size()) return nullptr;
  const auto& argument = of->arguments[at];
  *has_default = argument.default_value().has_value();
  *shared = argument.alias_info() != nullptr;
  *written = *shared && argument.alias_info()->isWrite();
  return argument.name().c_str();
}

// Calls an operator with one argument for each of its schema. Null, or the error's text, which the caller frees.
extern "C" char* parm_operator_call(const Operator* of, const Argument* given, size_t count, Emit emit, void* context) {
  return caught([&]() {
    TORCH_CHECK(count == of->arguments.size(), "found ", count, " arguments, expected ", of->arguments.size());
    torch::jit::Stack stack;
    stack.reserve(count);
    for (size_t at = 0; at < count; ++at) {
      const auto& declared = of->arguments[at];
      if (given[at].tag == kDefault) {
        TORCH_CHECK(declared.default_value().has_value(), "the argument '", declared.name(), "' is missing");
        stack.push_back(*declared.default_value());
      } else {
        stack.push_back(value(given[at], *of->types[at], declared));
      }
    }
    of->handle.callBoxed(stack);
    for (const auto& result : stack) emit_value(result, emit, context);
  });
}
