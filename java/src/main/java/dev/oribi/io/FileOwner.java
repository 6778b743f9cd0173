package dev.oribi.io;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.CRC32;

/**
 * Which process a temporary file belongs to, as a part of the file's name: {@code PLACE-PID-START}.
 *
 * <p>PLACE stands for the machine and the space in which its numbers of processes hold (a container has one of its own): what
 * another machine writes into a folder that both see is never taken for a leftover. START is the second at which the process
 * began, so that a later process with the same number is not taken for it.
 */
public final class FileOwner {
  /** This process. */
  public static final String SELF = place() + "-" + ProcessHandle.current().pid() + "-" + start(ProcessHandle.current());

  private static final Pattern MARK = Pattern.compile("([0-9a-f]{8})-(\\d{1,18})-(\\d{1,18})(-.*)?");

  /** A clock that is set while a process runs moves the second at which it is said to have begun. */
  private static final long CLOCK_SECONDS = 10;

  private FileOwner() {}

  /** Whether a name that was made from {@link #SELF} and a suffix is that of a process of this machine that does not run any more. */
  public static boolean isDead(String mark) {
    Matcher parts = MARK.matcher(mark);
    if (!parts.matches() || !mark.startsWith(SELF.substring(0, SELF.indexOf('-') + 1))) {
      return false;
    }
    Optional<ProcessHandle> process = ProcessHandle.of(Long.parseLong(parts.group(2))).filter(ProcessHandle::isAlive);
    if (process.isEmpty() || isZombie(parts.group(2))) {
      return true;
    }
    long now = start(process.get());
    return now != 0 && Math.abs(now - Long.parseLong(parts.group(3))) > CLOCK_SECONDS;
  }

  /** A process that has ended and that nobody has asked about, as happens in containers, still has its number. */
  private static boolean isZombie(String pid) {
    String stat = read("/proc/" + pid + "/stat");
    return stat.startsWith(" Z", stat.lastIndexOf(')') + 1);
  }

  /** In seconds; 0 where the system does not tell. */
  private static long start(ProcessHandle process) {
    return process.info().startInstant().map(Instant::getEpochSecond).orElse(0L);
  }

  private static String place() {
    CRC32 sum = new CRC32();
    for (String part : new String[] {read("/etc/machine-id"), read("/proc/sys/kernel/hostname"), link("/proc/self/ns/pid"), System.getenv("HOSTNAME"),
        System.getenv("COMPUTERNAME"), System.getProperty("os.name")}) {
      sum.update(String.valueOf(part).getBytes(StandardCharsets.UTF_8));
    }
    return String.format("%08x", sum.getValue());
  }

  private static String read(String file) {
    try {
      return Files.readString(Path.of(file)).strip();
    } catch (IOException | RuntimeException e) {
      return ""; // another system
    }
  }

  private static String link(String file) {
    try {
      return Files.readSymbolicLink(Path.of(file)).toString();
    } catch (IOException | RuntimeException e) {
      return "";
    }
  }
}
