#pragma once
#include <napi.h>

#include <memory>

#include "js/memory.h"
#include "siv/blocks.h"

// Blocks as JavaScript names them; `from` is null when they are not all in memory, or overlap.
struct Request {
  siv::Blocks blocks;
  siv::Rows rows;
  std::byte* hashes;  // null: they are not wanted
};

// In `a`: from, to, blockBytes, count, rowAt, stride, hashAt (looked at when `seals`; −1: none).
Request RequestIn(const Memory& memory, const double* a, bool seals) noexcept;

// new Key(bytes, "auto" | "vaes" | "aesni" | "portable"). Nothing of the key can be seen from JavaScript.
class JsKey final : public Napi::ObjectWrap<JsKey> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit JsKey(const Napi::CallbackInfo& info);

  // The key that is the first argument of a call, or null.
  static const JsKey* First(napi_env env, napi_callback_info info);

  // Null after `wipe`.
  [[nodiscard]] const std::shared_ptr<const siv::Key>& key() const noexcept { return key_; }

 private:
  Napi::Value Implementation(const Napi::CallbackInfo& info);
  Napi::Value Wipe(const Napi::CallbackInfo& info);
  static napi_value Seal(napi_env env, napi_callback_info info);
  static napi_value Open(napi_env env, napi_callback_info info);
  static JsKey* Of(napi_env env, napi_value object);
  static JsKey* Own(napi_env env, napi_value object);

  std::shared_ptr<const siv::Key> key_;
  siv::Nonces nonces_;
};
