// Streams of GPUs, which tch does not have. libtorch's own interface for any kind of device, so that this
// needs no CUDA to be compiled: where libtorch's GPU code is loaded, it is found there.

#include <c10/core/impl/VirtualGuardImpl.h>

// Gives this thread a stream of its own. False if the device has none to give.
extern "C" bool parm_own_stream(signed char type, signed char index) {
  try {
    const c10::Device device(static_cast<c10::DeviceType>(type), index);
    const c10::impl::VirtualGuardImpl guard(device.type());
    guard.exchangeStream(guard.getNewStream(device));
    return true;
  } catch (...) {
    return false;
  }
}
