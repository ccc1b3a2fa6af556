// TorchScript modules: what tch does not give access to are their buffers, the names of their inputs, and copies.

#include <torch/script.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <sstream>
#include <string>
#include <vector>

#include "thrown.h"

namespace {

// What `emit` is given: a name and a tensor, or null for what is none.
using Emit = void (*)(void* context, const char* name, bool flag, at::Tensor* tensor);

void emit_value(const std::string& name, const c10::IValue& value, Emit emit, void* context, bool nested = false) {
  if (value.isTensor()) {
    emit(context, name.c_str(), false, new at::Tensor(value.toTensor()));
  } else if (!nested && (value.isTuple() || value.isList())) {
    // Of an output that is a list itself, the first tensor counts.
    const auto first = value.isTuple() ? value.toTupleRef().elements().vec() : value.toListRef().vec();
    if (first.empty()) {
      emit(context, name.c_str(), false, nullptr);
    } else {
      emit_value(name, first.front(), emit, context, true);
    }
  } else {
    emit(context, name.c_str(), false, nullptr);
  }
}

std::string key(const c10::IValue& value) {
  if (value.isString()) return value.toStringRef();
  if (value.isInt()) return std::to_string(value.toInt());
  return "";
}

}  // namespace

struct Script {
  torch::jit::Module module;
};

extern "C" char* parm_script_load(const char* path, signed char type, signed char index, Script** loaded) {
  return caught([&]() {
    const c10::Device device(static_cast<c10::DeviceType>(type), index);
    *loaded = new Script{torch::jit::load(path, device)};
  });
}

// As parm_script_load, of the bytes of a file.
extern "C" char* parm_script_parse(const char* bytes, size_t length, signed char type, signed char index,
                                   Script** loaded) {
  return caught([&]() {
    std::istringstream file(std::string(bytes, length));
    *loaded = new Script{torch::jit::load(file, c10::Device(static_cast<c10::DeviceType>(type), index))};
  });
}

extern "C" void parm_script_free(Script* script) {
  delete script;
}

// A copy with tensors of its own.
extern "C" char* parm_script_copy(const Script* script, Script** copy) {
  return caught([&]() { *copy = new Script{script->module.deepcopy()}; });
}

// The module frozen and optimised for inference, by libtorch.
extern "C" char* parm_script_optimize(const Script* script, Script** optimized) {
  return caught([&]() {
    auto frozen = torch::jit::freeze(script->module);
    *optimized = new Script{torch::jit::optimize_for_inference(frozen)};
  });
}

// Sets the mode of all modules: whether they learn, and whether batch normalisation uses the batch's statistics.
extern "C" char* parm_script_train(Script* script, bool learns, bool trains_norm) {
  return caught([&]() {
    for (auto module : script->module.modules()) {
      if (!module.hasattr("training")) continue;
      module.setattr("training", module.hasattr("running_mean") ? trains_norm : learns);
    }
  });
}

// Puts a tensor in the place of a parameter or buffer, by its name.
extern "C" char* parm_script_set(Script* script, const char* name, const at::Tensor* tensor) {
  return caught([&]() {
    auto module = script->module;
    std::string rest = name;
    for (auto dot = rest.find('.'); dot != std::string::npos; dot = rest.find('.')) {
      module = module.attr(rest.substr(0, dot)).toModule();
      rest = rest.substr(dot + 1);
    }
    module.setattr(rest, *tensor);
  });
}

// The parameters (true) and buffers (false), by name.
extern "C" char* parm_script_tensors(const Script* script, Emit emit, void* context) {
  return caught([&]() {
    for (const auto& item : script->module.named_parameters()) {
      emit(context, item.name.c_str(), true, new at::Tensor(item.value));
    }
    for (const auto& item : script->module.named_buffers()) {
      emit(context, item.name.c_str(), false, new at::Tensor(item.value));
    }
  });
}

// The arguments of `forward`: their names, and whether they have a default.
extern "C" char* parm_script_arguments(const Script* script, Emit emit, void* context) {
  return caught([&]() {
    const auto& arguments = script->module.get_method("forward").function().getSchema().arguments();
    for (size_t at = 1; at < arguments.size(); ++at) {
      emit(context, arguments[at].name().c_str(), arguments[at].default_value().has_value(), nullptr);
    }
  });
}

// Calls `forward` with tensors by name. Emits its outputs: by key, by index, or a single one without a name.
extern "C" char* parm_script_forward(const Script* script, const char* const* names, const at::Tensor* const* tensors,
                                     size_t count, Emit emit, void* context) {
  return caught([&]() {
    std::unordered_map<std::string, c10::IValue> inputs;
    for (size_t at = 0; at < count; ++at) inputs.emplace(names[at], *tensors[at]);
    auto module = script->module;
    const auto outputs = module.get_method("forward")({}, inputs);
    if (outputs.isGenericDict()) {
      for (const auto& entry : outputs.toGenericDict()) emit_value(key(entry.key()), entry.value(), emit, context);
    } else if (outputs.isTuple() || outputs.isList()) {
      const auto all = outputs.isTuple() ? outputs.toTupleRef().elements().vec() : outputs.toListRef().vec();
      for (size_t at = 0; at < all.size(); ++at) emit_value(std::to_string(at), all[at], emit, context);
    } else {
      emit_value("", outputs, emit, context);
    }
  });
}

// The number of batch normalisations whose mode is a constant of the program, as in traced modules.
extern "C" char* parm_script_fixed_norms(const Script* script, size_t* count) {
  return caught([&]() {
    auto graph = script->module.get_method("forward").graph()->copy();
    torch::jit::Inline(*graph);
    *count = 0;
    std::vector<torch::jit::Block*> blocks{graph->block()};
    while (!blocks.empty()) {
      auto* block = blocks.back();
      blocks.pop_back();
      for (auto* node : block->nodes()) {
        for (auto* inner : node->blocks()) blocks.push_back(inner);
        if (node->kind() == c10::aten::batch_norm && node->inputs().size() > 5 &&
            node->input(5)->node()->kind() == c10::prim::Constant) {
          ++*count;
        }
      }
    }
  });
}

// Gives the file of the module to `take`, in one piece. (Saving to a path aborts the process if it cannot be written.)
extern "C" char* parm_script_save(const Script* script, void (*take)(void* context, const char* bytes, size_t length),
                                  void* context) {
  return caught([&]() {
    std::ostringstream file;
    script->module.save(file);
    const auto bytes = file.str();
    take(context, bytes.data(), bytes.size());
  });
}
