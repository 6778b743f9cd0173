/**
 * Training data: files to rows, rows to micro-batches.
 *
 * <p>{@link dev.oribi.data.Dataset#load} resolves files, folders and patterns ({@link dev.oribi.data.DataFiles}), reads JSON arrays,
 * JSONL, CSV, Parquet and plain text, and tokenizes their records into {@link dev.oribi.data.Row}s: tokens and, as long, labels, in
 * which -100 masks a token that the model is not trained to produce. A record's keys tell its format:
 *
 * <table>
 * <caption>Formats</caption>
 * <tr><th>keys</th><th>what is learned</th></tr>
 * <tr><td>{@code instruction}, {@code output}, maybe {@code input}, {@code system}</td><td>the output: as the answer in a
 * conversation if the model has a chat template, else behind Stanford Alpaca's prompt</td></tr>
 * <tr><td>{@code messages}: list of {@code role}, {@code content}; maybe {@code tools}</td><td>the assistant's turns, written
 * by the model's chat template</td></tr>
 * <tr><td>{@code conversations}: list of {@code from}, {@code value} (ShareGPT)</td><td>the same</td></tr>
 * <tr><td>{@code prompt}, {@code completion}</td><td>the completion; two strings are joined as they are, two lists of messages
 * are written by the chat template</td></tr>
 * <tr><td>{@code chosen}, {@code rejected}, and maybe {@code prompt}</td><td>the chosen answer; both for {@link
 * dev.oribi.data.PreferencePair}</td></tr>
 * <tr><td>{@code text}</td><td>everything</td></tr>
 * <tr><td>{@code input_ids}, maybe {@code labels}</td><td>what the labels say, else everything; needs no tokenizer</td></tr>
 * <tr><td>a file named {@code .txt}</td><td>everything, in windows of the maximum length</td></tr>
 * </table>
 *
 * <p>In a conversation {@link dev.oribi.data.MaskBy} says how answers are found, {@link dev.oribi.data.TrainOn} which are learned. The
 * token that ends an answer is always learned with it: {@code EndTokens} knows which these are, and text that no chat template wrote
 * gets the end-of-sequence token. Text is tokenized as a whole, prompt and answer together; a token that holds characters of both is
 * learned. Rows that are too long are cut at the end and counted; rows without any target are dropped and counted ({@link
 * dev.oribi.data.Report}); any other fault is an error that names the file and the line, or the element of the array.
 *
 * <p>Rows that are too many for memory are in a file ({@code RowFile}), which is also the cache of a later run.
 *
 * <p>{@link dev.oribi.data.Batches} puts the rows in order, epoch by epoch, and lays them end to end in {@link
 * dev.oribi.data.MicroBatch}es, packed or not; {@link dev.oribi.data.RowInspector} shows rows as they will be learned, with their faults.
 *
 * <p>To read: {@code DataFiles}, {@code RecordReader}, {@code RowMaker}, {@code Conversation}, {@code DatasetLoader}, {@code Batches}.
 *
 * <pre>{@code
 * try (Tokenizer tokenizer = Tokenizer.load(model)) {
 *   Dataset data = Dataset.load(List.of(file), DataOptions.of(512), tokenizer, ChatTemplate.load(model).orElse(null));
 *   System.out.println(data.report().sentence());
 *   Batches batches = new Batches(data, 4, 512, true, true, 42);
 *   MicroBatch first = batches.get(0, 0);
 * }
 * }</pre>
 */
package dev.oribi.data;
