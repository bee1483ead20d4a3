/**
 * A command as it could be typed, for messages and tables: the program and its script without their folders, and long ones
 * are cut.
 */
export function formatCommand(command: readonly string[], maxLength = 60): string {
  const names = command.map((word, i) =>
    i < 2 && word.startsWith('/') ? word.slice(word.lastIndexOf('/') + 1) : word,
  );
  const text = names.map((word) => (/^[\w@%+=:,./~-]+$/.test(word) ? word : JSON.stringify(word))).join(' ');
  return text.length > maxLength ? `${text.slice(0, maxLength - 1)}…` : text;
}
