console.log("native build is not there yet");
