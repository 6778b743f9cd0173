package dev.oribi.optim;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.Test;

class LossScaleTest {
  @Test
  void halvesAtAnOverflowAndDoublesAfterManyUpdates() {
    LossScale scale = LossScale.FIRST.afterUpdate().afterOverflow();
    assertThat(scale).isEqualTo(new LossScale(32768, 0));
    for (int i = 0; i < 1999; i++) {
      scale = scale.afterUpdate();
      assertThat(scale.value()).isEqualTo(32768);
    }
    assertThat(scale.afterUpdate()).isEqualTo(new LossScale(65536, 0));
    assertThat(scale.afterOverflow()).isEqualTo(new LossScale(16384, 0));
  }

  @Test
  void endsAtOne() {
    LossScale scale = LossScale.FIRST;
    for (int i = 0; i < 16; i++) {
      scale = scale.afterOverflow();
    }
    LossScale last = scale;
    assertThat(last.value()).isEqualTo(1);
    assertThat(last.canShrink()).isFalse();
    assertThatThrownBy(last::afterOverflow).isInstanceOf(IllegalStateException.class);
  }

  @Test
  void isOffForTypesThatNeedNone() {
    assertThat(LossScale.NONE.afterUpdate()).isEqualTo(LossScale.NONE);
    assertThat(LossScale.NONE.canShrink()).isFalse();
  }
}
