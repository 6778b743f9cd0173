/**
 * The command line {@code oribi}.
 *
 * <p>{@link dev.oribi.cli.Main} parses, runs a command and turns what it throws into one line and an exit code. A command
 * is a small class: options above, a few calls into the library below; whatever a command can do a Java program can do with
 * {@link dev.oribi.train} and {@link dev.oribi.generate}.
 *
 * <h2>Exit codes</h2>
 * <table>
 *   <caption>What the process ends with</caption>
 *   <tr><td>0</td><td>done</td></tr>
 *   <tr><td>1</td><td>it could not be done: one line on the error stream says what, where, and what to do</td></tr>
 *   <tr><td>2</td><td>the command line was wrong</td></tr>
 *   <tr><td>130, 143</td><td>stopped by Ctrl-C or by SIGTERM; a training run has saved a checkpoint</td></tr>
 * </table>
 */
package dev.oribi.cli;
