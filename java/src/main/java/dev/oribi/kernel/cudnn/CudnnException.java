package dev.oribi.kernel.cudnn;

import static org.bytedeco.cuda.global.cudnn.cudnnGetErrorString;
import static org.bytedeco.cuda.global.cudnn.cudnnGetLastErrorString;

import dev.oribi.OribiException;
import java.nio.charset.StandardCharsets;

/** cuDNN refused something. The message carries its own words, which name the condition that failed. */
public final class CudnnException extends OribiException {
  private static final long serialVersionUID = 1;

  CudnnException(String message) {
    super(message);
  }

  static void check(int status, String what) {
    if (status != 0) {
      throw new CudnnException(
          "cuDNN: " + what + ": " + cudnnGetErrorString(status).getString() + " (" + status + "): " + lastError());
    }
  }

  static String lastError() {
    byte[] text = new byte[2048];
    cudnnGetLastErrorString(text, text.length);
    int length = 0;
    while (length < text.length && text[length] != 0) {
      length++;
    }
    return new String(text, 0, length, StandardCharsets.UTF_8).replace('\n', ' ').strip();
  }
}
