#pragma once
#include <napi.h>

// What the addon offers besides its classes: the functions of sys.
void DefineSystem(Napi::Env env, Napi::Object exports);
