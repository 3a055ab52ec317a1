/** The text that the tiny tokenizer learns its merges from. */
export const corpus = `
A policy is a rule that says what to do next. In reinforcement learning the policy is a language
model: it reads a prompt, writes an answer one token at a time, and each token is an action. When
the answer is finished, a reward says how good it was. The trainer then changes the weights of the
model so that good answers become more likely and bad answers become less likely.

The work is split in two. Servers generate the answers, many at the same time, because one request
alone would leave most of the machine idle. The trainer computes the gradients, takes a step, and
sends the new weights to the servers. Then the servers go on with the new weights. It is important
to know which version of the weights made every token, because the trainer must compare the
probability under the old weights with the probability under the new weights.

What can go wrong? A server may be slow, or it may stop in the middle of an answer. The connection
may break. The new weights may reach one server and not the other. The text may be split into other
tokens than the tokens that were sampled. A good program says what went wrong, where it went wrong,
and what can be done about it. A bad program waits for ever and says nothing at all.

The user asks: what is the capital of France? The assistant answers: the capital of France is Paris.
The user asks: what is two plus two? The assistant answers: two plus two is four.
The user asks: how many days are in a week? The assistant answers: there are seven days in a week.
The user asks: what is the opposite of hot? The assistant answers: the opposite of hot is cold.
The user asks: please write a function that adds two numbers. The assistant answers:

function add(left: number, right: number): number {
  return left + right;
}

const total = values.reduce((sum, value) => sum + value, 0);
for (const item of items) console.log(item.name, item.value);
export async function generate(prompt: string, options: Options): Promise<Result> {
  const response = await fetch(url, { method: "POST", body: JSON.stringify({ prompt }) });
  if (!response.ok) throw new Error("The server answered " + response.status);
  return await response.json();
}

def add(left, right):
    """Return the sum of left and right."""
    return left + right

class Counter:
    def __init__(self, start=0):
        self.value = start

    def increment(self):
        self.value = self.value + 1
        return self.value

import asyncio

if __name__ == "__main__":
    for number in range(10):
        print(number, add(number, number))

Numbers are written with digits: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 100, 1000, 2026.
A sentence starts with a capital letter and ends with a full stop. A question ends with a question
mark. Think step by step: first read the question, then think about what is asked, then write down
the answer, and at the end check that the answer is right. If it is wrong, think again. If there is
no answer, say that there is no answer. Let us think about the problem: we have three apples and we
buy four more apples, so that now we have seven apples. We eat two of them, and five are left.

The morning was cold and the sky was clear. She walked along the river, over the old bridge, and
into the town where the market had just opened. There were apples and pears, bread and cheese, and
a man who sold small wooden birds. "How much is this one?" she asked. "For you, nothing," he said,
"but you must tell me a story." So she sat down and told him about the house by the sea where she
was born, about the ships, and about the light that went around all night and could be seen from
far away. When she had finished, other people had come to listen, and nobody wanted to go home.

Water boils at one hundred degrees. Light is faster than sound. The moon goes around the earth and
the earth goes around the sun. A year has twelve months. Plants need light, water and air. Some birds
fly to the south in the winter and come back in the spring. The heart moves the blood through the
body. A triangle has three sides, a square has four sides, and a circle has no corners. Every whole
number is even or odd. The sum of two even numbers is even; the sum of two odd numbers is even too.
`;
