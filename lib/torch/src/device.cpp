// What tch lacks of libtorch's devices. These are libtorch's own interfaces for any kind of device, so that
// this needs no CUDA to be compiled: where libtorch's GPU code is loaded, it is found there.

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace {

c10::Device device(signed char type, signed char index) {
  return {static_cast<c10::DeviceType>(type), index};
}

}  // namespace

// Gives this thread a stream of its own. False if the device has none to give.
extern "C" bool parm_own_stream(signed char type, signed char index) {
  try {
    const c10::impl::VirtualGuardImpl guard(device(type, index).type());
    guard.exchangeStream(guard.getNewStream(device(type, index)));
    return true;
  } catch (...) {
    return false;
  }
}

// Waits until this thread's stream has done all that it was given. False if the device failed meanwhile.
extern "C" bool parm_synchronize(signed char type, signed char index) {
  try {
    const c10::impl::VirtualGuardImpl guard(device(type, index).type());
    guard.synchronizeStream(guard.getStream(device(type, index)));
    return true;
  } catch (...) {
    return false;
  }
}

// The most bytes that tensors took of a GPU's memory at a time, and that this process held for them. False
// if nobody counted.
extern "C" bool parm_peak_memory(signed char type, signed char index, long long* allocated, long long* reserved) {
  try {
    const auto stats = c10::getDeviceAllocator(device(type, index).type())->getDeviceStats(index);
    constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *allocated = stats.allocated_bytes[all].peak;
    *reserved = stats.reserved_bytes[all].peak;
    return true;
  } catch (...) {
    return false;
  }
}

// An empty tensor like this one, in memory of the host that a GPU copies from by itself. Null if there is none.
// (tch's pin_memory names a device, which libtorch warns of.)
extern "C" at::Tensor* parm_pinned_like(const at::Tensor* like) {
  try {
    return new at::Tensor(at::empty_like(*like, like->options().pinned_memory(true)));
  } catch (...) {
    return nullptr;
  }
}

// The same images with their channels last in memory. Null if they are no images, or memory is short.
extern "C" at::Tensor* parm_channels_last(const at::Tensor* images) {
  try {
    // Unlike contiguous, this gives images of one channel strides that say so, and with them the outputs.
    return new at::Tensor(images->to(images->options().memory_format(at::MemoryFormat::ChannelsLast)));
  } catch (...) {
    return nullptr;
  }
}

// Turns autocast to bf16 on or off for operations of this thread on this type of device. Off, it forgets the
// weights that it cast.
extern "C" void parm_autocast(signed char type, bool enabled) {
  const auto kind = static_cast<c10::DeviceType>(type);
  at::autocast::set_autocast_enabled(kind, enabled);
  if (enabled) {
    at::autocast::set_autocast_dtype(kind, at::kBFloat16);
  } else {
    at::autocast::clear_cache();
  }
}

// Whether products of f32 matrices and convolutions may keep ten bits of a number.
extern "C" void parm_allow_tf32(bool allow) {
  at::globalContext().setAllowTF32CuBLAS(allow);
  at::globalContext().setAllowTF32CuDNN(allow);
}

extern "C" bool parm_allows_tf32() {
  return at::globalContext().allowTF32CuDNN();
}
