package dev.oribi.serve;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.generate.TextModel.Answer;
import dev.oribi.generate.TextModel.End;
import dev.oribi.io.Json;

/**
 * The JSON of answers: whole, and piece by piece.
 *
 * @param usage whether a stream counts its tokens
 */
record Shape(boolean chat, String id, long created, String model, boolean usage) {
  private ObjectNode begin(boolean streamed) {
    String object = chat ? streamed ? "chat.completion.chunk" : "chat.completion" : "text_completion";
    ObjectNode json = Json.object().put("id", id).put("object", object).put("created", created).put("model", model);
    if (streamed && usage) {
      json.putNull("usage"); // in the last piece there are numbers
    }
    return json;
  }

  ObjectNode whole(Answer answer) {
    ObjectNode json = begin(false);
    ObjectNode choice = json.putArray("choices").addObject().put("index", 0);
    if (chat) {
      choice.putObject("message").put("role", "assistant").put("content", answer.text());
    } else {
      choice.put("text", answer.text());
    }
    choice.put("finish_reason", reason(answer.end()));
    putUsage(json, answer);
    return json;
  }

  ObjectNode piece(String text, boolean first) {
    ObjectNode json = begin(true);
    ObjectNode choice = json.putArray("choices").addObject().put("index", 0);
    if (chat) {
      ObjectNode delta = choice.putObject("delta");
      if (first) {
        delta.put("role", "assistant");
      }
      delta.put("content", text);
    } else {
      choice.put("text", text);
    }
    choice.putNull("finish_reason");
    return json;
  }

  ObjectNode end(Answer answer) {
    ObjectNode json = begin(true);
    ObjectNode choice = json.putArray("choices").addObject().put("index", 0);
    if (chat) {
      choice.putObject("delta");
    } else {
      choice.put("text", "");
    }
    choice.put("finish_reason", reason(answer.end()));
    return json;
  }

  ObjectNode usage(Answer answer) {
    ObjectNode json = begin(true);
    json.putArray("choices");
    putUsage(json, answer);
    return json;
  }

  private static void putUsage(ObjectNode json, Answer answer) {
    json.putObject("usage").put("prompt_tokens", answer.promptTokens()).put("completion_tokens", answer.newTokens())
        .put("total_tokens", answer.promptTokens() + answer.newTokens());
  }

  private static String reason(End end) {
    return end == End.LENGTH ? "length" : "stop";
  }

  static ObjectNode error(int status, String message) {
    ObjectNode json = Json.object();
    String type = status < 500 ? "invalid_request_error" : "server_error";
    json.putObject("error").put("message", message).put("type", type).putNull("param").putNull("code");
    return json;
  }
}
