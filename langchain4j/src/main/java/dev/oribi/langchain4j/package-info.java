/**
 * A model of Oribi in a LangChain4j service, in the process of the service: no server, no second program.
 *
 * <pre>{@code
 * try (OribiModel model = OribiModel.open(Path.of("base"), Path.of("support-adapter"), 2048)) {
 *   ChatModel chat = model.chatModel();
 *   chat.chat("How do I reset my password?");
 *   model.useAdapter(Path.of("sales-adapter"));       // while it runs; answers under way end first
 * }
 * }</pre>
 */
package dev.oribi.langchain4j;
