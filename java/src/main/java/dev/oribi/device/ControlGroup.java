package dev.oribi.device;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** What the control groups of this process, by which Linux bounds containers, leave it of the memory. */
final class ControlGroup {
  private ControlGroup() {}

  /**
   * Bytes; {@code Long.MAX_VALUE} without a limit. What files fill in the cache is given back when it is needed, so it is free.
   *
   * @param root of the file system, another one in tests
   */
  static long available(Path root) {
    long least = Long.MAX_VALUE;
    for (String line : lines(root.resolve("proc/self/cgroup"))) {
      String[] parts = line.split(":", 3); // number, controllers, path; version 2 has one line, without controllers
      boolean second = parts.length == 3 && parts[1].isEmpty();
      if (second || parts.length == 3 && List.of(parts[1].split(",")).contains("memory")) {
        Path mount = root.resolve(second ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
        // In a container the path may be the host's, of which only the last folder is there, and as the mount itself.
        Path at = mount.resolve(parts[2].substring(1)).normalize();
        for (at = at.startsWith(mount) ? at : mount; at.startsWith(mount); at = at.getParent()) {
          least = Math.min(least, left(at, second));
        }
      }
    }
    return least;
  }

  private static long left(Path group, boolean second) {
    long limit = first(group.resolve(second ? "memory.max" : "memory.limit_in_bytes"));
    long used = first(group.resolve(second ? "memory.current" : "memory.usage_in_bytes"));
    if (limit == Long.MAX_VALUE || used == Long.MAX_VALUE) {
      return Long.MAX_VALUE;
    }
    Path statistics = group.resolve("memory.stat");
    String total = second ? "" : "total_"; // with the groups within
    long files = CpuDevice.number(statistics, total + "inactive_file ", 0) + CpuDevice.number(statistics, total + "active_file ", 0);
    return Math.max(0, limit - used + files);
  }

  /** The number that a file consists of; the largest where there is none, or the word "max". */
  private static long first(Path file) {
    List<String> lines = lines(file);
    try {
      return lines.isEmpty() ? Long.MAX_VALUE : Long.parseLong(lines.get(0).strip());
    } catch (NumberFormatException e) {
      return Long.MAX_VALUE;
    }
  }

  private static List<String> lines(Path file) {
    try {
      return Files.isReadable(file) ? Files.readAllLines(file) : List.of();
    } catch (IOException e) {
      return List.of();
    }
  }
}
