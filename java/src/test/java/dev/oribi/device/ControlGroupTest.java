package dev.oribi.device;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A container's limit, as the kernel tells it in files. */
class ControlGroupTest {
  private static final long GIB = 1L << 30;

  @TempDir Path root;

  private void write(String file, Object text) throws IOException {
    Path path = root.resolve(file);
    Files.createDirectories(path.getParent());
    Files.writeString(path, text + "\n");
  }

  private void group(String folder, Object limit, long used, long cached) throws IOException {
    write("sys/fs/cgroup/" + folder + "memory.max", limit);
    write("sys/fs/cgroup/" + folder + "memory.current", used);
    write("sys/fs/cgroup/" + folder + "memory.stat", "anon 7\ninactive_file " + cached / 2 + "\nactive_file " + cached / 2);
  }

  @Test
  void withoutALimitEverythingIsThere() throws IOException {
    assertThat(ControlGroup.available(root)).isEqualTo(Long.MAX_VALUE);
    write("proc/self/cgroup", "0::/");
    assertThat(ControlGroup.available(root)).isEqualTo(Long.MAX_VALUE);
    group("", "max", GIB, 0);
    assertThat(ControlGroup.available(root)).isEqualTo(Long.MAX_VALUE);
  }

  @Test
  void theTightestGroupOfThePathCounts() throws IOException {
    write("proc/self/cgroup", "0::/user.slice/run.scope");
    group("user.slice/", 8 * GIB, 5 * GIB, 2 * GIB);
    assertThat(ControlGroup.available(root)).isEqualTo(5 * GIB);
    group("user.slice/run.scope/", 4 * GIB, 3 * GIB, 2 * GIB);
    assertThat(ControlGroup.available(root)).isEqualTo(3 * GIB);
    group("user.slice/run.scope/", 4 * GIB, 5 * GIB, 0);
    assertThat(ControlGroup.available(root)).isZero();
  }

  /** A container sees its own group as the mount, whatever path it is told. */
  @Test
  void aContainersMountCounts() throws IOException {
    for (String path : new String[] {"/docker/0123", "/../0123", "/"}) {
      write("proc/self/cgroup", "0::" + path);
      group("", 4 * GIB, GIB, 0);
      assertThat(ControlGroup.available(root)).as(path).isEqualTo(3 * GIB);
    }
  }

  @Test
  void theFirstVersionHasOtherNames() throws IOException {
    write("proc/self/cgroup", "5:devices:/docker/0123\n4:memory:/docker/0123\n0::/");
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", 4 * GIB);
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", 3 * GIB);
    write("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file " + GIB + "\ntotal_active_file " + GIB);
    assertThat(ControlGroup.available(root)).isEqualTo(3 * GIB);
  }
}
