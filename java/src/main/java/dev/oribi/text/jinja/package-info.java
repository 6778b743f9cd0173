/**
 * A small interpreter of Jinja, the language of chat templates.
 *
 * <p>Templates come with models from anywhere, so they are untrusted programs. They see copies of plain values only
 * (strings, numbers, booleans, none, lists, mappings), never Java objects; steps, memory and depth are bounded.
 *
 * <p>Read in this order. {@link dev.oribi.text.jinja.Lexer} cuts the source into text and tokens and settles the white
 * space around tags. {@link dev.oribi.text.jinja.Parser} makes {@link dev.oribi.text.jinja.Expression}s and
 * {@link dev.oribi.text.jinja.Statement}s, which evaluate themselves in a {@link dev.oribi.text.jinja.Frame} of
 * variables. {@link dev.oribi.text.jinja.Values} and {@link dev.oribi.text.jinja.Operators} hold Python's rules for
 * values; filters, tests and methods each have a class. Where Jinja2 and Python leave no doubt, the result is theirs to
 * the letter: a template that prints a float or a list must print what the model was trained on.
 *
 * <p>The language is Jinja2's, as Hugging Face sets it up for chat templates: {@code trim_blocks}, {@code lstrip_blocks},
 * loop controls and {@code {% generation %}} are on; including and inheriting other templates is not there.
 *
 * <pre>{@code
 * Template template = Template.parse("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}");
 * String text = template.render(Map.of("messages", messages)).text();
 * }</pre>
 */
package dev.oribi.text.jinja;
