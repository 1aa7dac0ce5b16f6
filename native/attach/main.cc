#include <signal.h>

#include <cstdio>
#include <cstring>

#include "attach/commands.h"
#include "attach/report.h"

int main(int count, char** words) {
  // Whoever reads our output may go away; the device stays.
  (void)::signal(SIGPIPE, SIG_IGN);
  for (int i = 1; i < count; i++) {
    if (std::strcmp(words[i], "--help") != 0 && std::strcmp(words[i], "-h") != 0) continue;
    std::fputs(attach::kHelp, stdout);
    return 0;
  }
  attach::Options options;
  char problem[256];
  if (!attach::parse_options(count, words, options, problem))
    return attach::failed(options, attach::Code::kUsage, 0, "%s", problem);
  if (options.command == "run") return attach::run(options);
  if (options.command == "disconnect") return attach::disconnect(options);
  if (options.command == "status") return attach::status(options);
  return attach::probe(options);
}
