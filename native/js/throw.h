#pragma once
#include <napi.h>

#include <cstring>
#include <string>

// Callers write `return Throw(...)` and touch no JavaScript value afterwards.
inline Napi::Value Throw(Napi::Env env, const char* what, int error) {
  auto exception = Napi::Error::New(env, std::string(what) + ": " + std::strerror(-error));
  exception.Set("errno", Napi::Number::New(env, error));
  exception.ThrowAsJavaScriptException();
  return env.Undefined();
}
