package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.io.AtomicFiles;
import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Graphics2D;
import java.awt.image.BufferedImage;
import java.nio.channels.Channels;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import javax.imageio.ImageIO;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.XYSeries;
import org.knowm.xchart.style.Styler.LegendPosition;
import org.knowm.xchart.style.markers.SeriesMarkers;

/** The picture at the end of a run: training loss and held-out loss over the steps. */
final class LossPlot {
  static final String FILE = "loss.png";
  private static final int WIDTH = 900;
  private static final int HEIGHT = 500;
  /** Fewer points than this are marked: a line through one or two says little. */
  private static final int SHOW_POINTS = 20;

  private LossPlot() {}

  /**
   * Writes {@code loss.png}; nothing if no loss was logged.
   *
   * @return what to tell the user if this Java cannot draw, which no finished run may fail for; empty otherwise
   */
  static Optional<String> write(Path outputDir, List<Map<String, Number>> log) {
    try {
      draw(outputDir, log);
      return Optional.empty();
    } catch (OribiException e) {
      throw e;
    } catch (RuntimeException | LinkageError e) {
      return Optional.of("No " + FILE + ": this Java cannot draw text (" + e.getMessage()
          + "); on Debian or Ubuntu: apt-get install fontconfig fonts-dejavu-core");
    }
  }

  private static void draw(Path outputDir, List<Map<String, Number>> log) {
    XYChart chart = new XYChartBuilder().width(WIDTH).height(HEIGHT).title("Loss").xAxisTitle("step")
        .yAxisTitle("nats per target token").build();
    chart.getStyler().setLegendPosition(LegendPosition.InsideNE).setChartBackgroundColor(Color.WHITE);
    boolean trained = add(chart, log, "loss", "training", Color.BLUE);
    boolean evaluated = add(chart, log, "eval_loss", "held out", Color.RED);
    if (trained || evaluated) {
      BufferedImage image = new BufferedImage(WIDTH, HEIGHT, BufferedImage.TYPE_INT_RGB);
      Graphics2D graphics = image.createGraphics();
      chart.paint(graphics, WIDTH, HEIGHT);
      graphics.dispose();
      AtomicFiles.file(outputDir.resolve(FILE), out -> ImageIO.write(image, "png", Channels.newOutputStream(out)));
    }
  }

  /** Draws the values of a key over their steps; false if the log has none. */
  private static boolean add(XYChart chart, List<Map<String, Number>> log, String key, String name, Color color) {
    List<Number> steps = new ArrayList<>();
    List<Number> losses = new ArrayList<>();
    for (Map<String, Number> entry : log) {
      if (entry.containsKey(key)) {
        steps.add(entry.get("step"));
        losses.add(entry.get(key));
      }
    }
    if (!steps.isEmpty()) {
      XYSeries series = chart.addSeries(name, steps, losses);
      series.setMarker(steps.size() < SHOW_POINTS ? SeriesMarkers.CIRCLE : SeriesMarkers.NONE).setMarkerColor(color);
      series.setLineColor(color).setLineStyle(new BasicStroke(2));
    }
    return !steps.isEmpty();
  }
}
