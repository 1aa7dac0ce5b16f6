#include "js/system.h"

#include <unistd.h>

#include <vector>

#include "js/throw.h"
#include "sys/sys.h"

namespace {

int Whole(const Napi::Value& value) { return value.IsNumber() ? value.As<Napi::Number>().Int32Value() : -1; }

// An array of descriptors; anything else in it is −1, which the kernel refuses.
std::vector<int> Descriptors(const Napi::Value& value) {
  std::vector<int> found;
  if (!value.IsArray()) return found;
  const auto array = value.As<Napi::Array>();
  for (std::uint32_t i = 0; i < array.Length(); i++) found.push_back(Whole(array.Get(i)));
  return found;
}

// notify(path, text[, descriptors]): zero or a negative errno.
Napi::Value Notify(const Napi::CallbackInfo& info) {
  if (info.Length() < 2 || !info[0].IsString() || !info[1].IsString()) return Throw(info.Env(), "notify", -EINVAL);
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const std::string text = info[1].As<Napi::String>().Utf8Value();
  const std::vector<int> descriptors = info.Length() > 2 ? Descriptors(info[2]) : std::vector<int>{};
  return Napi::Number::New(info.Env(), sys::notify(path, text, descriptors));
}

// notifyBarrier(path, timeoutMs): zero or a negative errno.
Napi::Value NotifyBarrier(const Napi::CallbackInfo& info) {
  if (info.Length() < 2 || !info[0].IsString()) return Throw(info.Env(), "notifyBarrier", -EINVAL);
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  return Napi::Number::New(info.Env(), sys::notify_barrier(path, Whole(info[1])));
}

// execute(path, words): does not come back, or a negative errno.
Napi::Value Execute(const Napi::CallbackInfo& info) {
  if (info.Length() < 2 || !info[0].IsString() || !info[1].IsArray()) return Throw(info.Env(), "execute", -EINVAL);
  const std::string path = info[0].As<Napi::String>();
  const auto words = info[1].As<Napi::Array>();
  std::vector<std::string> texts;
  for (std::uint32_t i = 0; i < words.Length(); i++) texts.push_back(words.Get(i).ToString().Utf8Value());
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return Napi::Number::New(info.Env(), sys::execute(path.c_str(), pointers.data()));
}

// lock(file): zero or a negative errno.
Napi::Value Lock(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsNumber()) return Throw(info.Env(), "lock", -EINVAL);
  return Napi::Number::New(info.Env(), sys::lock(Whole(info[0])));
}

// memoryFile(name): a descriptor or a negative errno.
Napi::Value MemoryFile(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsString()) return Throw(info.Env(), "memoryFile", -EINVAL);
  return Napi::Number::New(info.Env(), sys::memory_file(info[0].As<Napi::String>().Utf8Value().c_str()));
}

// pair(): two descriptors.
Napi::Value Pair(const Napi::CallbackInfo& info) {
  int ends[2];
  if (const int error = sys::pair(ends); error < 0) return Throw(info.Env(), "socketpair", error);
  auto answer = Napi::Array::New(info.Env(), 2);
  for (std::uint32_t i = 0; i < 2; i++) answer.Set(i, Napi::Number::New(info.Env(), ends[i]));
  return answer;
}

// sendDescriptors(socket, descriptors): zero or a negative errno.
Napi::Value SendDescriptors(const Napi::CallbackInfo& info) {
  if (info.Length() < 2 || !info[1].IsArray()) return Throw(info.Env(), "sendDescriptors", -EINVAL);
  return Napi::Number::New(info.Env(), sys::send_descriptors(Whole(info[0]), Descriptors(info[1])));
}

// receiveDescriptors(socket, timeoutMs): descriptors. Throws.
Napi::Value ReceiveDescriptors(const Napi::CallbackInfo& info) {
  if (info.Length() < 2) return Throw(info.Env(), "receiveDescriptors", -EINVAL);
  std::vector<int> found;
  const int error = sys::receive_descriptors(Whole(info[0]), Whole(info[1]), found);
  if (error < 0) {
    for (const int fd : found) (void)::close(fd);
    return Throw(info.Env(), "receiveDescriptors", error);
  }
  auto answer = Napi::Array::New(info.Env(), found.size());
  for (std::uint32_t i = 0; i < found.size(); i++) answer.Set(i, Napi::Number::New(info.Env(), found[i]));
  return answer;
}

}  // namespace

void DefineSystem(Napi::Env env, Napi::Object exports) {
  exports.Set("notify", Napi::Function::New<Notify>(env, "notify"));
  exports.Set("notifyBarrier", Napi::Function::New<NotifyBarrier>(env, "notifyBarrier"));
  exports.Set("lock", Napi::Function::New<Lock>(env, "lock"));
  exports.Set("execute", Napi::Function::New<Execute>(env, "execute"));
  exports.Set("memoryFile", Napi::Function::New<MemoryFile>(env, "memoryFile"));
  exports.Set("pair", Napi::Function::New<Pair>(env, "pair"));
  exports.Set("sendDescriptors", Napi::Function::New<SendDescriptors>(env, "sendDescriptors"));
  exports.Set("receiveDescriptors", Napi::Function::New<ReceiveDescriptors>(env, "receiveDescriptors"));
}
