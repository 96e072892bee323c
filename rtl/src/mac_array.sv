// The outer-product array: TOKENS x OUTPUTS x Inputs multiply-accumulates a cycle, two in a DSP48E2.
//
// `operands`, `weights` and `control` belong to the same cycle. The results of a pass stand from the cycle after `done`
// until the next pass ends, and leave through `select`, one output of all tokens a cycle.
module mac_array #(
    parameter int unsigned TOKENS  = bertile_pkg::WordTokens,
    parameter int unsigned OUTPUTS = bertile_pkg::ArrayOutputs
) (
    input logic clk,
    input logic reset,
    input logic [bertile_pkg::ArrayInputs-1:0][TOKENS-1:0][7:0] operands,
    input logic [bertile_pkg::ArrayInputs-1:0][OUTPUTS-1:0][7:0] weights,
    input engine_pkg::cycle_t control,
    output logic done,  // the results of a pass stand from the next cycle on
    input logic [$clog2(OUTPUTS)-1:0] select,
    output logic [TOKENS-1:0][engine_pkg::AccumulatorBits-1:0] selected  // two cycles after `select`
);

  localparam int unsigned Inputs = bertile_pkg::ArrayInputs;
  localparam int unsigned Pairs = OUTPUTS / 2;
  localparam int unsigned Field = bertile_pkg::ArrayFieldBits;
  localparam int unsigned ChainLatency = Inputs + 3;  // from `control` to the sum of its group

  logic [Inputs-1:0][TOKENS-1:0][engine_pkg::OperandBits-1:0] wide_operands, skewed_operands;
  logic [Inputs-1:0][Pairs-1:0][bertile_pkg::ArrayFieldBits+8:0] packed_weights, skewed_weights;

  // Extend and pack, then register. low + high * 2^18: a negative low weight takes one from the high field.
  always_ff @(posedge clk) begin
    for (int i = 0; i < Inputs; i++) begin
      for (int token = 0; token < TOKENS; token++) begin
        wide_operands[i][token] <= {!control.is_unsigned && operands[i][token][7], operands[i][token]};
      end
      for (int pair = 0; pair < Pairs; pair++) begin
        packed_weights[i][pair] <= {
          {weights[i][2*pair+1][7], weights[i][2*pair+1]} - 9'(weights[i][2*pair][7]),
          {(Field - 8) {weights[i][2*pair][7]}},
          weights[i][2*pair]
        };
      end
    end
  end

  // Input i of every chain comes i cycles later.
  for (genvar i = 0; i < Inputs; i++) begin : g_skew
    delay #(
        .WIDTH (TOKENS * engine_pkg::OperandBits),
        .CYCLES(i)
    ) operand (
        .clk,
        .in_data (wide_operands[i]),
        .out_data(skewed_operands[i])
    );
    delay #(
        .WIDTH (Pairs * (bertile_pkg::ArrayFieldBits + 9)),
        .CYCLES(i)
    ) weight (
        .clk,
        .in_data (packed_weights[i]),
        .out_data(skewed_weights[i])
    );
  end

  logic [ChainLatency-1:0] valid, first, blank, last;
  always_ff @(posedge clk) begin
    valid <= {valid[ChainLatency-2:0], control.valid};
    first <= {first[ChainLatency-2:0], control.first};
    blank <= {blank[ChainLatency-2:0], control.blank};
    last  <= {last[ChainLatency-2:0], control.valid && control.last};
    done  <= last[ChainLatency-1];
    if (reset) begin
      valid <= '0;
      last  <= '0;
      done  <= 1'b0;
    end
  end
  logic [TOKENS-1:0][Inputs-1:0][engine_pkg::OperandBits-1:0] token_operands;
  always_comb begin
    for (int token = 0; token < TOKENS; token++) begin
      for (int i = 0; i < Inputs; i++) token_operands[token][i] = skewed_operands[i][token];
    end
  end

  for (genvar token = 0; token < TOKENS; token++) begin : g_token
    mac_column #(
        .OUTPUTS(OUTPUTS)
    ) column (
        .clk,
        .weights(skewed_weights),
        .operands(token_operands[token]),
        .valid(valid[ChainLatency-1]),
        .first(first[ChainLatency-1]),
        .blank(blank[ChainLatency-1]),
        .last(done),
        .select,
        .selected(selected[token])
    );
  end

endmodule
