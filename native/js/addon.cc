// The core at the boundary to JavaScript: argument checks, views of native memory, and one libuv handle that says when there is
// something to do.
#include <napi.h>
#include <uv.h>

#include <memory>
#include <string>

#include "arena/arena.h"
#include "hash/hash.h"
#include "js/key.h"
#include "js/memory.h"
#include "js/system.h"
#include "js/throw.h"
#include "loop/loop.h"
#include "loop/patience.h"
#include "net/net.h"
#include "plain/plain.h"
#include "ring/ring.h"
#include "siv/crew.h"

namespace {

// A view of memory that native code owns and frees.
Napi::ArrayBuffer View(Napi::Env env, void* memory, std::size_t bytes) {
  return Napi::ArrayBuffer::New(env, memory, bytes);
}

// Most turns before the event loop's other business gets its chance.
constexpr int kTurns = 32;

class Core final : public Napi::ObjectWrap<Core> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Core",
                       {
                           InstanceAccessor<&Core::Arena>("arena"),
                           InstanceAccessor<&Core::Requests>("requests"),
                           InstanceAccessor<&Core::Vectors>("vectors"),
                           InstanceAccessor<&Core::Completions>("completions"),
                           InstanceAccessor<&Core::EngineName>("engine"),
                           InstanceMethod<&Core::Start>("start"),
                           InstanceMethod<&Core::Close>("close"),
                           InstanceMethod<&Core::ListenTcp>("listenTcp"),
                           InstanceMethod<&Core::ListenUnix>("listenUnix"),
                           InstanceMethod<&Core::Adopt>("adopt"),
                           InstanceMethod<&Core::AdoptStream>("adoptStream"),
                           InstanceMethod<&Core::ConnectTcp>("connectTcp"),
                           InstanceMethod<&Core::ConnectUnix>("connectUnix"),
                           InstanceMethod<&Core::CloseSlot>("closeSlot"),
                           InstanceMethod<&Core::Detach>("detach"),
                           InstanceMethod<&Core::ShutDown>("shutDown"),
                           InstanceMethod<&Core::Peer>("peer"),
                           InstanceMethod<&Core::Local>("local"),
                           Fast("exchange", Exchange),
                           Fast("hashBlocks", HashBlocks),
                           Fast("hashVerify", HashVerify),
                           Fast("hashVerifyPrefixed", HashVerifyPrefixed),
                           Fast("isZero", IsZero),
                           Fast("sealLater", SealLater),
                           Fast("openLater", OpenLater),
                       });
  }

  // new Core(bytes, {descriptor, headBytes, bodyBytes} or null, "auto" | "ring" | "plain")
  explicit Core(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Core>(info), env_(info.Env()) {
    if (info.Length() < 3 || !info[0].IsNumber() || !info[2].IsString()) {
      Throw(env_, "arguments of Core", -EINVAL);
      return;
    }
    const double bytes = info[0].As<Napi::Number>().DoubleValue();
    const bool backed = info[1].IsObject();
    const double head = backed ? Field(info[1], "headBytes") : 0;
    const double body = backed ? Field(info[1], "bodyBytes") : 0;
    if (!(bytes > 0 && bytes <= 9e15 && head >= 0 && body >= 0 && head + body <= bytes)) {
      Throw(env_, "size of the arena", -EINVAL);
      return;
    }
    const int fd = backed ? static_cast<int>(Field(info[1], "descriptor")) : -1;
    const arena::Backing backing{fd, static_cast<std::size_t>(head), static_cast<std::size_t>(body)};
    int error = arena_.open(static_cast<std::size_t>(bytes), backed ? &backing : nullptr);
    if (error < 0) {
      Throw(env_, "arena", error);
      return;
    }
    error = open_engine(info[2].As<Napi::String>().Utf8Value());
    if (error < 0) {
      Throw(env_, "engine", error);
      return;
    }
    error = loop_.open(arena_, *engine_);
    if (error < 0) {
      Throw(env_, "loop", error);
      return;
    }
    napi_add_env_cleanup_hook(env_, OnExit, this);
    hooked_ = true;
  }

  ~Core() override {
    if (hooked_) napi_remove_env_cleanup_hook(env_, OnExit, this);
    shut();
  }

 private:
  using Native = napi_value (*)(napi_env, napi_callback_info);

  // A method called so often that the comfortable wrapper would show in profiles.
  static Napi::ClassPropertyDescriptor<Core> Fast(const char* name, Native method) {
    napi_property_descriptor descriptor{};
    descriptor.utf8name = name;
    descriptor.method = method;
    descriptor.attributes = napi_default;
    return {descriptor};
  }

  int open_engine(const std::string& wanted) {
    if (wanted != "plain") {
      auto ring = std::make_unique<ring::Ring>();
      const int error = ring->open();
      if (error == 0) {
        engine_ = std::move(ring);
        name_ = "ring";
        return 0;
      }
      if (wanted == "ring") return error;
    }
    auto plain = std::make_unique<plain::Plain>();
    const int error = plain->open();
    engine_ = std::move(plain);
    name_ = "plain";
    return error;
  }

  // ---- Views ----

  Napi::Value Arena(const Napi::CallbackInfo&) {
    if (bytes_.IsEmpty()) bytes_ = Napi::Persistent(View(env_, arena_.base(), arena_.size()));
    return bytes_.Value();
  }
  Napi::Value Doubles(double* data, std::size_t count) {
    return Napi::Float64Array::New(env_, count, View(env_, data, count * sizeof(double)), 0);
  }
  Napi::Value Requests(const Napi::CallbackInfo&) {
    return Doubles(loop_.requests(), loop::kRequestRows * loop::kRequestColumns);
  }
  Napi::Value Vectors(const Napi::CallbackInfo&) { return Doubles(loop_.vectors(), loop::kVectorRows * 2); }
  Napi::Value Completions(const Napi::CallbackInfo&) {
    return Doubles(loop_.completions(), loop::kCompletionRows * loop::kCompletionColumns + 1);
  }
  Napi::Value EngineName(const Napi::CallbackInfo&) { return Napi::String::New(env_, name_); }

  // ---- The loop ----

  // start(callback): from now on callback(rows) is called when a turn has filled completion rows.
  Napi::Value Start(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsFunction() || poll_ != nullptr) return Throw(env_, "start", -EINVAL);
    uv_loop_t* uv = nullptr;
    if (napi_get_uv_event_loop(env_, &uv) != napi_ok) return Throw(env_, "event loop", -ENOSYS);
    auto poll = std::make_unique<uv_poll_t>();
    int error = uv_poll_init(uv, poll.get(), loop_.watch_fd());
    if (error < 0) return Throw(env_, "event loop", error);
    poll_ = poll.release();
    poll_->data = this;
    callback_ = Napi::Persistent(info[0].As<Napi::Function>());
    error = uv_poll_start(poll_, UV_READABLE, OnReady);
    if (error < 0) return Throw(env_, "event loop", error);
    Ref();  // not collected while the event loop knows us
    return env_.Undefined();
  }

  static void OnReady(uv_poll_t* poll, int, int) {
    auto* self = static_cast<Core*>(poll->data);
    std::size_t rows = self->loop_.turn();
    for (int turns = 0; rows > 0 || self->loop_.more(); turns++) {
      self->call(rows);
      if (turns >= kTurns || self->poll_ == nullptr) return;
      if (!self->patience_.wait([self] { return self->loop_.look(); })) return;
      rows = self->loop_.exchange(0);
    }
  }

  // An exception that reaches us means that our own code is broken in the middle of its bookkeeping:
  // the process ends, as for any uncaught exception.
  void call(std::size_t rows) {
    const Napi::HandleScope scope(env_);
    napi_value argument = Napi::Number::New(env_, static_cast<double>(rows));
    napi_value result = nullptr;
    const napi_status status =
        napi_make_callback(env_, nullptr, env_.Global(), callback_.Value(), 1, &argument, &result);
    if (status == napi_ok) return;
    bool pending = false;
    napi_is_exception_pending(env_, &pending);
    if (!pending) return;  // the environment is going away
    napi_value error = nullptr;
    napi_get_and_clear_last_exception(env_, &error);
    napi_fatal_exception(env_, error);
  }

  // Not to be called from within the callback: see src/host/open.ts, which posts it.
  Napi::Value Close(const Napi::CallbackInfo&) {
    shut();
    if (!bytes_.IsEmpty()) {
      napi_detach_arraybuffer(env_, bytes_.Value());
      bytes_.Reset();
      arena_.close();
    }
    return env_.Undefined();
  }

  void shut() noexcept {
    if (poll_ != nullptr) {
      uv_poll_stop(poll_);
      uv_close(reinterpret_cast<uv_handle_t*>(poll_),
               [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
      poll_ = nullptr;
      callback_.Reset();
      Unref();
    }
    crew_.close();
    loop_.close();
  }

  static void OnExit(void* data) {
    auto* self = static_cast<Core*>(data);
    self->hooked_ = false;
    self->crew_.close();
    self->loop_.close();  // the kernel must be done with the arena before the process tears down
  }

  // ---- Sockets ----

  static int Integer(const Napi::CallbackInfo& info, std::size_t i) {
    return info.Length() > i && info[i].IsNumber() ? info[i].As<Napi::Number>().Int32Value() : -1;
  }
  // -1 when it is missing or no number.
  static double Field(const Napi::Value& object, const char* name) {
    const Napi::Value value = object.As<Napi::Object>().Get(name);
    return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  }
  static std::string Text(const Napi::CallbackInfo& info, std::size_t i) {
    return info.Length() > i && info[i].IsString() ? info[i].As<Napi::String>().Utf8Value() : "";
  }
  Napi::Value Answer(int value) { return Napi::Number::New(env_, value); }

  Napi::Value ListenTcp(const Napi::CallbackInfo& info) {
    return Answer(loop_.add_listener(net::listen_tcp(Text(info, 0).c_str(), Integer(info, 1))));
  }
  Napi::Value ListenUnix(const Napi::CallbackInfo& info) {
    const auto mode = static_cast<unsigned>(Integer(info, 1));
    return Answer(loop_.add_listener(net::listen_unix(Text(info, 0).c_str(), mode)));
  }
  Napi::Value Adopt(const Napi::CallbackInfo& info) {
    return Answer(loop_.add_listener(net::adopt_listener(Integer(info, 0))));
  }
  // A descriptor that will not do stays open, and the caller's.
  Napi::Value AdoptStream(const Napi::CallbackInfo& info) {
    return Answer(loop_.add_stream(net::adopt_stream(Integer(info, 0))));
  }
  Napi::Value ConnectTcp(const Napi::CallbackInfo& info) {
    return Answer(loop_.add_connecting(net::connect_tcp(Text(info, 0).c_str(), Integer(info, 1))));
  }
  Napi::Value ConnectUnix(const Napi::CallbackInfo& info) {
    return Answer(loop_.add_connecting(net::connect_unix(Text(info, 0).c_str())));
  }
  Napi::Value CloseSlot(const Napi::CallbackInfo& info) {
    loop_.close_slot(static_cast<std::uint32_t>(Integer(info, 0)));
    return env_.Undefined();
  }
  // [descriptor or -errno, bytes received]
  Napi::Value Detach(const Napi::CallbackInfo& info) {
    std::size_t received = 0;
    const int fd = loop_.detach(static_cast<std::uint32_t>(Integer(info, 0)), received);
    auto answer = Napi::Array::New(env_, 2);
    answer.Set(0U, Napi::Number::New(env_, fd));
    answer.Set(1U, Napi::Number::New(env_, static_cast<double>(received)));
    return answer;
  }
  Napi::Value ShutDown(const Napi::CallbackInfo& info) {
    loop_.shut_down(static_cast<std::uint32_t>(Integer(info, 0)));
    return env_.Undefined();
  }
  Napi::Value Peer(const Napi::CallbackInfo& info) {
    const int fd = loop_.fd_of(static_cast<std::uint32_t>(Integer(info, 0)));
    return Napi::String::New(env_, net::peer_name(fd));
  }
  Napi::Value Local(const Napi::CallbackInfo& info) {
    const int fd = loop_.fd_of(static_cast<std::uint32_t>(Integer(info, 0)));
    return Napi::String::New(env_, net::local_name(fd));
  }

  // ---- Called often ----

  // `this` and up to N numbers; a missing or foreign one is NaN, which no range check lets through.
  template <std::size_t N>
  static Core* Arguments(napi_env env, napi_callback_info info, double (&out)[N]) {
    napi_value values[N];
    std::size_t count = N;
    napi_value self = nullptr;
    void* core = nullptr;
    if (napi_get_cb_info(env, info, &count, values, &self, nullptr) != napi_ok) return nullptr;
    for (std::size_t i = 0; i < N; i++)
      if (i >= count || napi_get_value_double(env, values[i], &out[i]) != napi_ok) out[i] = __builtin_nan("");
    if (napi_unwrap(env, self, &core) != napi_ok) return nullptr;
    return static_cast<Core*>(core);
  }
  static napi_value Number(napi_env env, double value) {
    napi_value result = nullptr;
    napi_create_double(env, value, &result);
    return result;
  }
  static napi_value OutOfRange(napi_env env) {
    napi_throw_range_error(env, nullptr, "memory outside the arena");
    return nullptr;
  }

  static napi_value Exchange(napi_env env, napi_callback_info info) {
    double staged[1];
    Core* self = Arguments(env, info, staged);
    if (self == nullptr || self->poll_ == nullptr || !(staged[0] >= 0)) return OutOfRange(env);
    return Number(env, static_cast<double>(self->loop_.exchange(static_cast<std::size_t>(staged[0]))));
  }

  [[nodiscard]] Memory memory() const { return {arena_.base(), arena_.size()}; }
  [[nodiscard]] std::byte* spread(double at, double bytes, double count, double stride) const {
    return memory().spread(at, bytes, count, stride);
  }

  static napi_value HashBlocks(napi_env env, napi_callback_info info) {
    double a[5];  // at, blockBytes, count, outAt, outStride
    Core* self = Arguments(env, info, a);
    if (self == nullptr) return OutOfRange(env);
    const std::byte* at = self->spread(a[0], a[1], a[2], a[1]);
    std::byte* out = self->spread(a[3], 8, a[2], a[4]);
    if (at == nullptr || out == nullptr) return OutOfRange(env);
    hash::blocks({at, static_cast<std::size_t>(a[1]), static_cast<std::size_t>(a[2])}, out,
                 static_cast<std::size_t>(a[4]));
    return nullptr;
  }
  static napi_value HashVerify(napi_env env, napi_callback_info info) {
    double a[5];  // at, blockBytes, count, wantAt, wantStride
    Core* self = Arguments(env, info, a);
    if (self == nullptr) return OutOfRange(env);
    const std::byte* at = self->spread(a[0], a[1], a[2], a[1]);
    const std::byte* want = self->spread(a[3], 8, a[2], a[4]);
    if (at == nullptr || want == nullptr) return OutOfRange(env);
    const auto bad = hash::verify({at, static_cast<std::size_t>(a[1]), static_cast<std::size_t>(a[2])}, want,
                                  static_cast<std::size_t>(a[4]));
    return Number(env, static_cast<double>(bad));
  }
  static napi_value HashVerifyPrefixed(napi_env env, napi_callback_info info) {
    double a[8];  // as above, then prefixAt, prefixStride, prefixBytes
    Core* self = Arguments(env, info, a);
    if (self == nullptr) return OutOfRange(env);
    const std::byte* at = self->spread(a[0], a[1], a[2], a[1]);
    const std::byte* want = self->spread(a[3], 8, a[2], a[4]);
    const std::byte* prefix = self->spread(a[5], a[7], a[2], a[6]);
    if (at == nullptr || want == nullptr || prefix == nullptr) return OutOfRange(env);
    const auto bad = hash::verify_prefixed({at, static_cast<std::size_t>(a[1]), static_cast<std::size_t>(a[2])}, want,
                                           static_cast<std::size_t>(a[4]),
                                           {prefix, static_cast<std::size_t>(a[6]), static_cast<std::size_t>(a[7])});
    return Number(env, static_cast<double>(bad));
  }
  static napi_value IsZero(napi_env env, napi_callback_info info) {
    double a[2];
    Core* self = Arguments(env, info, a);
    const std::byte* at = self == nullptr ? nullptr : self->arena_.range(a[0], a[1]);
    if (at == nullptr) return OutOfRange(env);
    napi_value result = nullptr;
    napi_get_boolean(env, hash::is_zero(at, static_cast<std::size_t>(a[1])), &result);
    return result;
  }

  // sealLater(key, from, to, blockBytes, count, rowAt, stride, hashAt, tag)
  static napi_value SealLater(napi_env env, napi_callback_info info) { return Later(env, info, true); }
  // openLater(key, from, to, blockBytes, count, rowAt, stride, –, tag)
  static napi_value OpenLater(napi_env env, napi_callback_info info) { return Later(env, info, false); }
  static napi_value Later(napi_env env, napi_callback_info info, bool seals) {
    double a[9];
    Core* self = Arguments(env, info, a);
    const JsKey* key = JsKey::First(env, info);
    if (self == nullptr || key == nullptr || key->key() == nullptr) return OutOfRange(env);
    const Request request = RequestIn(self->memory(), a + 1, seals);
    if (request.blocks.from == nullptr) return OutOfRange(env);
    if (const int error = self->open_crew(); error < 0) return Throw(env, "threads for encryption", error);
    if (seals)
      self->crew_.seal(key->key(), request.blocks, request.rows, request.hashes, a[8]);
    else
      self->crew_.open(key->key(), request.blocks, request.rows, a[8]);
    return nullptr;
  }
  // Only where something is encrypted are there threads for it.
  int open_crew() {
    if (crew_.watch_fd() >= 0) return 0;
    const int error = crew_.open();
    return error < 0 ? error : loop_.attach(crew_);
  }

  Napi::Env env_;
  loop::Patience patience_;
  bool hooked_ = false;
  // In this order: the loop goes first, then the engine, then the memory that both use.
  arena::Arena arena_;
  std::unique_ptr<loop::Engine> engine_;
  loop::Loop loop_;
  siv::Crew crew_;
  const char* name_ = "";
  Napi::Reference<Napi::ArrayBuffer> bytes_;
  uv_poll_t* poll_ = nullptr;
  Napi::FunctionReference callback_;
};

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("Core", Core::Define(env));
  exports.Set("Key", JsKey::Define(env));
  DefineSystem(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(trivet, Init)
