#include "js/key.h"

#include <cerrno>

#include "js/throw.h"

namespace {

// Any numbers will do, as long as nobody else's objects have the same.
constexpr napi_type_tag kTag{0x5d1f0c3a9be24b77ULL, 0xa6e1947d20c85f13ULL};

napi_value OutOfRange(napi_env env) {
  napi_throw_range_error(env, nullptr, "no key, or blocks outside of the memory");
  return nullptr;
}

// `this`, the memory, and the numbers behind it; a missing or foreign one is NaN, which no range check lets through.
template <std::size_t N>
struct Call {
  napi_value self = nullptr;
  Memory memory{nullptr, 0};
  double numbers[N];

  bool read(napi_env env, napi_callback_info info) {
    napi_value values[N + 1];
    std::size_t count = N + 1;
    if (napi_get_cb_info(env, info, &count, values, &self, nullptr) != napi_ok || count < 1) return false;
    for (std::size_t i = 0; i < N; i++)
      if (i + 1 >= count || napi_get_value_double(env, values[i + 1], &numbers[i]) != napi_ok)
        numbers[i] = __builtin_nan("");
    napi_typedarray_type type{};
    void* data = nullptr;
    // Refuses what is no such array; a view of memory that was taken away has no bytes.
    if (napi_get_typedarray_info(env, values[0], &type, &memory.bytes, &data, nullptr, nullptr) != napi_ok ||
        type != napi_uint8_array)
      return false;
    memory.base = static_cast<std::byte*>(data);
    return memory.base != nullptr;
  }
};

}  // namespace

Request RequestIn(const Memory& memory, const double* a, bool seals) noexcept {
  constexpr Request kNone{};
  const double bytes = a[2];
  const double count = a[3];
  const double stride = a[5];
  if (!(bytes >= 1)) return kNone;
  std::byte* from = memory.spread(a[0], bytes, count, bytes);
  std::byte* to = memory.spread(a[1], bytes, count, bytes);
  std::byte* rows = memory.spread(a[4], siv::kRowBytes, count, stride);
  const bool hashed = seals && a[6] != -1;
  std::byte* hashes = hashed ? memory.spread(a[6], 8, count, stride) : nullptr;
  if (from == nullptr || to == nullptr || rows == nullptr || (hashed && hashes == nullptr)) return kNone;
  const siv::Blocks blocks{from, to, static_cast<std::size_t>(bytes), static_cast<std::size_t>(count)};
  const std::size_t all = blocks.bytes * blocks.count;
  if (from != to && from < to + all && to < from + all) return kNone;
  return {blocks, {rows, static_cast<std::size_t>(stride)}, hashes};
}

Napi::Function JsKey::Define(Napi::Env env) {
  const auto fast = [](const char* name, napi_callback method) {
    napi_property_descriptor descriptor{};
    descriptor.utf8name = name;
    descriptor.method = method;
    descriptor.attributes = napi_default;
    return Napi::ClassPropertyDescriptor<JsKey>(descriptor);
  };
  return DefineClass(env, "Key",
                     {
                         InstanceAccessor<&JsKey::Implementation>("implementation"),
                         InstanceMethod<&JsKey::Wipe>("wipe"),
                         fast("seal", Seal),
                         fast("open", Open),
                     });
}

JsKey::JsKey(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsKey>(info) {
  const Napi::Env env = info.Env();
  napi_type_tag_object(env, info.This(), &kTag);
  const bool good = info.Length() >= 2 && info[0].IsTypedArray() && info[1].IsString() &&
                    info[0].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array &&
                    info[0].As<Napi::Uint8Array>().ByteLength() == siv::kKeyBytes;
  if (!good) {
    Throw(env, "arguments of Key", -EINVAL);
    return;
  }
  const siv::Parts* parts = siv::choose(info[1].As<Napi::String>().Utf8Value());
  if (parts == nullptr) {
    Throw(env, "implementation", -ENOTSUP);
    return;
  }
  if (const int error = nonces_.open(); error < 0) {
    Throw(env, "random numbers", error);
    return;
  }
  auto key = std::make_shared<siv::Key>();
  const auto* bytes = reinterpret_cast<const std::byte*>(info[0].As<Napi::Uint8Array>().Data());
  if (const int error = key->open(bytes, *parts); error < 0) {
    Throw(env, "key", error);
    return;
  }
  key_ = std::move(key);
}

JsKey* JsKey::Of(napi_env env, napi_value object) {
  bool is_key = false;
  if (napi_check_object_type_tag(env, object, &kTag, &is_key) != napi_ok || !is_key) return nullptr;
  return Own(env, object);
}

// The receiver of a method.
JsKey* JsKey::Own(napi_env env, napi_value object) {
  void* key = nullptr;
  if (napi_unwrap(env, object, &key) != napi_ok) return nullptr;
  return static_cast<JsKey*>(key);
}

const JsKey* JsKey::First(napi_env env, napi_callback_info info) {
  napi_value first = nullptr;
  std::size_t count = 1;
  if (napi_get_cb_info(env, info, &count, &first, nullptr, nullptr) != napi_ok || count < 1) return nullptr;
  return Of(env, first);
}

Napi::Value JsKey::Implementation(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), key_ == nullptr ? "" : key_->parts().name);
}

Napi::Value JsKey::Wipe(const Napi::CallbackInfo& info) {
  key_.reset();
  return info.Env().Undefined();
}

// seal(memory, from, to, blockBytes, count, rowAt, stride, hashAt, fresh): with `fresh` 0 under the nonces that stand in the rows.
napi_value JsKey::Seal(napi_env env, napi_callback_info info) {
  Call<8> call;
  if (!call.read(env, info)) return OutOfRange(env);
  JsKey* self = Own(env, call.self);
  if (self == nullptr || self->key_ == nullptr) return OutOfRange(env);
  const Request request = RequestIn(call.memory, call.numbers, true);
  if (request.blocks.from == nullptr) return OutOfRange(env);
  siv::Nonces* nonces = call.numbers[7] == 0 ? nullptr : &self->nonces_;
  siv::seal_blocks(*self->key_, nonces, request.blocks, request.rows, request.hashes);
  return nullptr;
}

// open(memory, from, to, blockBytes, count, rowAt, stride): index of a bad block, or −1.
napi_value JsKey::Open(napi_env env, napi_callback_info info) {
  Call<6> call;
  if (!call.read(env, info)) return OutOfRange(env);
  const JsKey* self = Own(env, call.self);
  if (self == nullptr || self->key_ == nullptr) return OutOfRange(env);
  const Request request = RequestIn(call.memory, call.numbers, false);
  if (request.blocks.from == nullptr) return OutOfRange(env);
  const auto bad = siv::open_blocks(*self->key_, request.blocks, request.rows);
  napi_value result = nullptr;
  napi_create_double(env, static_cast<double>(bad), &result);
  return result;
}
